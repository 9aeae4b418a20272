-- Records decisions. Connectors that record for the same event do so one after another.
--
-- The keys of decision guarantee one acceptance of an event, and one rejection for each fingerprint. They cannot
-- prevent that a rejection is added beside an acceptance that was committed after this transaction had read the event,
-- since the two rows have no key in common. In between, another connector would have answered a duplicate of the
-- rejected scan that its event is already used, so the two answers would differ.
--
-- So all events of a batch are locked first, in one order, by advisory locks that end with the transaction. A
-- transaction holds no row and no lock of a code while it waits for one of these. The key of a lock is a part of the
-- event's id: two events with the same key only wait for one another. Connectors of earlier releases call
-- record_decisions itself, with the same results as before.
CREATE FUNCTION record_decisions_in_turn(jobs TEXT)
RETURNS TABLE (
    number INTEGER, outcome TEXT, recorded_at BIGINT, denial TEXT, visitor_id TEXT, visitor_type TEXT, device_id TEXT,
    payment_source TEXT, session_effect TEXT, session_id BIGINT
)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    its RECORD;
BEGIN
    FOR its IN
        -- Locks with two numbers as their key never conflict with the locks of codes, which have one.
        SELECT DISTINCT ('x' || left(x.event, 8))::BIT(32)::INTEGER AS one, ('x' || right(x.event, 8))::BIT(32)::INTEGER AS other
        FROM json_to_recordset(jobs::JSON) AS x (event TEXT)
        ORDER BY one, other
    LOOP
        PERFORM pg_advisory_xact_lock(its.one, its.other);
    END LOOP;
    -- In a volatile function, each statement sees what other transactions have committed before it.
    RETURN QUERY SELECT * FROM record_decisions(jobs);
END
$$;
