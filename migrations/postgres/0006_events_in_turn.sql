-- Records decisions, one connector after the other where they have one event.
--
-- The keys of decision see to it that an event has one acceptance, and each scan of it one rejection. They cannot see to it that a
-- rejection does not come to stand beside an acceptance that was committed since the event was looked at: the two rows have nothing in
-- common that conflicts. Between the two, another connector would have told a duplicate of the rejected scan that its event is used
-- already, and the two answers would not be the same.
--
-- So whoever records takes all events of its batch first, by locks that end with the transaction, in one order: nobody holds a
-- row, or the lock of a code, while waiting for one of these. Their key is part of the event's id; that two events may share one costs a wait and
-- nothing else. Connectors of earlier releases call record_decisions itself, and are no worse off than before.
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
        -- A space of two numbers, which the locks of codes are not in.
        SELECT DISTINCT ('x' || left(x.event, 8))::BIT(32)::INTEGER AS one, ('x' || right(x.event, 8))::BIT(32)::INTEGER AS other
        FROM json_to_recordset(jobs::JSON) AS x (event TEXT)
        ORDER BY one, other
    LOOP
        PERFORM pg_advisory_xact_lock(its.one, its.other);
    END LOOP;
    -- A function that changes something looks at the tables anew with each of its statements: what was committed meanwhile is seen.
    RETURN QUERY SELECT * FROM record_decisions(jobs);
END
$$;
