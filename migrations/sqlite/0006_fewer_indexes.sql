-- Recording in fewer places: each index is a page more that a record is written to, and of one in the order of events a page that hardly
-- another record of the batch is written to.

-- decision_by_recording begins with the same column, and goes on as this one does in a table without row ids.
DROP INDEX decision_by_age;

-- At most one acceptance of an event, as before. The decisions of an event stand beside one another in the table, so that looking at
-- them costs nothing where one is about to be written.
DROP INDEX decision_one_acceptance;
CREATE TRIGGER decision_one_acceptance BEFORE INSERT ON decision
WHEN NEW.denial IS NULL AND EXISTS (SELECT 1 FROM decision WHERE event_id = NEW.event_id AND denial IS NULL)
BEGIN
    SELECT RAISE(ABORT, 'an event has one acceptance');
END;
