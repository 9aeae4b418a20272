-- Fewer indexes, for faster recording: each index costs a record at least one more page to write. In an index by event,
-- hardly any other record of the batch is on the same page.

-- Without row ids, this index also contains the primary key, so it has the same columns as decision_by_recording.
DROP INDEX decision_by_age;

-- At most one acceptance of an event, as before. The decisions of an event are next to one another in the table, so
-- reading them is cheap when another one is about to be written there.
DROP INDEX decision_one_acceptance;
CREATE TRIGGER decision_one_acceptance BEFORE INSERT ON decision
WHEN NEW.denial IS NULL AND EXISTS (SELECT 1 FROM decision WHERE event_id = NEW.event_id AND denial IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'an event has one acceptance');
END;
