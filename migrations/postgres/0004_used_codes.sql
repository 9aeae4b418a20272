-- Scan Key Codes that an acceptance has used, if scan_key.single_use is on, and the event that each one opened. Only
-- the code's HMAC-SHA-256 under security.hash_key is stored, for as long as the decision.
CREATE TABLE used_code (
    digest      BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    event_id    BYTEA NOT NULL CHECK (length(event_id) = 16),
    recorded_at BIGINT NOT NULL
);

-- Finds expired rows.
CREATE INDEX used_code_by_age ON used_code (recorded_at);

-- Records decisions as before. A job may also have the digest of a code, which its acceptance uses. If another event
-- has used the code, the job becomes a rejection, key_already_used. Connectors of earlier releases send no codes, and
-- get the same results as before.
--
-- The primary key of used_code decides between connectors, like the keys of decision. An acceptance is written before
-- its code, so a job with the outcome replay or mismatch writes no code. If two connectors record one event with one
-- code, the first writes the decision, and the second answers from it. If two events have one code, the second insert
-- waits at the primary key until the first transaction ends. The code is then used, or free if the first transaction
-- has failed. An expired code counts as free. So does a code that the same event has used: its decision was deleted
-- before, otherwise the new one could not have been written.
--
-- Jobs are ordered by event, but their codes are not, so two batches could each hold one code and wait for the other's.
-- So all unused codes of a batch are locked first, in their own order, by advisory locks that end with the transaction.
-- A transaction that waits for such a lock holds no row yet, and a transaction that holds rows waits for no such lock.
-- A used code is only read, which locks nothing. The locks only order the transactions: if one is missing, for instance
-- because a code was swept in between, the primary key still decides, and lock_timeout ends the wait.
CREATE OR REPLACE FUNCTION record_decisions(jobs TEXT)
RETURNS TABLE (
    number INTEGER, outcome TEXT, recorded_at BIGINT, denial TEXT, visitor_id TEXT, visitor_type TEXT, device_id TEXT,
    payment_source TEXT, session_effect TEXT, session_id BIGINT
)
-- Plans are cached for the life of a connection. A plan that was made while the tables were empty would scan them
-- sequentially.
LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    job         RECORD;
    standing    decision%ROWTYPE;
    taken       SMALLINT[];
    has_expired BOOLEAN;
    its_place   SMALLINT;
    its_effect  TEXT;
    its_session BIGINT;
    code_key    BIGINT;
BEGIN
    -- A batch without codes is not parsed twice. Codes that are already used need no lock.
    IF position('"code"' IN jobs) > 0 THEN
        FOR code_key IN
            SELECT DISTINCT ('x' || left(x.code, 16))::BIT(64)::BIGINT AS key
            FROM json_to_recordset(jobs::JSON) AS x (code TEXT, denial TEXT, kept_since BIGINT)
            WHERE x.code IS NOT NULL AND x.denial IS NULL AND NOT EXISTS (
                SELECT FROM used_code u WHERE u.digest = decode(x.code, 'hex') AND u.recorded_at >= x.kept_since
            )
            ORDER BY key
        LOOP
            PERFORM pg_advisory_xact_lock(code_key);
        END LOOP;
    END IF;

    FOR job IN
        SELECT x.*, decode(x.event, 'hex') AS event_id, decode(x.scan, 'hex') AS fingerprint
        FROM json_to_recordset(jobs::JSON) AS x (
            number INTEGER, event TEXT, scan TEXT, recorded_at BIGINT, kept_since BIGINT, entered_since BIGINT,
            denial TEXT, visitor_id TEXT, visitor_type TEXT, device_id TEXT, payment_source TEXT,
            store_id TEXT, location TEXT, at TEXT, code TEXT
        )
        ORDER BY x.event, x.number
    LOOP
        LOOP
            SELECT array_agg(d.place), bool_or(d.recorded_at < job.kept_since) INTO taken, has_expired
            FROM decision d WHERE d.event_id = job.event_id;

            IF has_expired THEN
                DELETE FROM decision d WHERE d.event_id = job.event_id AND d.recorded_at < job.kept_since;
                CONTINUE;
            END IF;

            IF taken IS NOT NULL THEN
                SELECT d.* INTO standing FROM decision d
                WHERE d.event_id = job.event_id AND d.fingerprint = job.fingerprint;
                IF FOUND THEN
                    RETURN QUERY SELECT job.number, 'replay', standing.recorded_at, standing.denial,
                        standing.visitor_id, standing.visitor_type, standing.device_id, standing.payment_source,
                        standing.session_effect, standing.session_id;
                    EXIT;
                END IF;
                IF 0 = ANY (taken) OR cardinality(taken) >= 8 THEN
                    RETURN QUERY SELECT job.number, 'mismatch', NULL::BIGINT, NULL, NULL, NULL, NULL, NULL, NULL,
                        NULL::BIGINT;
                    EXIT;
                END IF;
            END IF;

            its_effect := NULL;
            its_session := NULL;
            IF job.denial IS NOT NULL THEN
                SELECT min(p) INTO its_place FROM generate_series(1, 8) AS p
                WHERE p <> ALL (coalesce(taken, '{}'));
            ELSE
                its_place := 0;
                IF job.location = 'ENTRY' THEN
                    its_effect := 'opened';
                    its_session := nextval(pg_get_serial_sequence('session', 'id'));
                ELSE
                    LOOP
                        SELECT s.id INTO its_session FROM session s
                        WHERE s.visitor_id = job.visitor_id AND s.store_id = job.store_id
                            AND s.exit_event_id IS NULL AND s.entry_recorded_at >= job.entered_since
                        ORDER BY s.id LIMIT 1 FOR UPDATE;
                        EXIT WHEN FOUND;
                        -- No session is open, or the open ones were closed while this statement waited for their locks.
                        -- Then another may have been opened in the meantime.
                        PERFORM FROM session s
                        WHERE s.visitor_id = job.visitor_id AND s.store_id = job.store_id
                            AND s.exit_event_id IS NULL AND s.entry_recorded_at >= job.entered_since;
                        EXIT WHEN NOT FOUND;
                    END LOOP;
                    its_effect := CASE WHEN its_session IS NULL THEN 'none_open' ELSE 'closed' END;
                END IF;
            END IF;

            INSERT INTO decision (event_id, place, fingerprint, recorded_at, denial, visitor_id, visitor_type, device_id,
                payment_source, session_effect, session_id)
            VALUES (
                job.event_id, its_place, job.fingerprint, job.recorded_at, job.denial, job.visitor_id,
                job.visitor_type, job.device_id, job.payment_source, its_effect, its_session
            ) ON CONFLICT DO NOTHING;
            -- Another transaction was first: read its record.
            CONTINUE WHEN NOT FOUND;

            IF job.denial IS NULL AND job.code IS NOT NULL THEN
                DELETE FROM used_code u
                WHERE u.digest = decode(job.code, 'hex')
                    AND (u.event_id = job.event_id OR u.recorded_at < job.kept_since);
                INSERT INTO used_code (digest, event_id, recorded_at)
                VALUES (decode(job.code, 'hex'), job.event_id, job.recorded_at) ON CONFLICT DO NOTHING;
                IF NOT FOUND THEN
                    -- Another event has used the code. The acceptance is not committed and has changed no session, so
                    -- it is deleted, and a rejection is recorded instead, by the usual rules.
                    DELETE FROM decision d WHERE d.event_id = job.event_id AND d.place = 0;
                    job.denial := 'key_already_used';
                    job.visitor_id := NULL;
                    job.visitor_type := NULL;
                    job.device_id := NULL;
                    job.payment_source := NULL;
                    CONTINUE;
                END IF;
            END IF;

            IF its_effect = 'opened' THEN
                INSERT INTO session (id, visitor_id, visitor_type, store_id, device_id, entry_event_id,
                    entry_timestamp, entry_recorded_at)
                VALUES (its_session, job.visitor_id, job.visitor_type, job.store_id, job.device_id, job.event_id,
                    job.at, job.recorded_at);
            ELSIF its_effect = 'closed' THEN
                UPDATE session s SET exit_event_id = job.event_id, exit_timestamp = job.at,
                    exit_recorded_at = job.recorded_at
                WHERE s.id = its_session;
            END IF;
            RETURN QUERY SELECT job.number, 'new', job.recorded_at, job.denial, job.visitor_id, job.visitor_type,
                job.device_id, job.payment_source, its_effect, its_session;
            EXIT;
        END LOOP;
    END LOOP;
END
$$;
