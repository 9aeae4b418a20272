-- Scan Key Codes that an acceptance has used up, where scan_key.single_use is on: which event each one opened. A code is not kept, only
-- its HMAC-SHA-256 under security.hash_key, and for as long as the decision.
CREATE TABLE used_code (
    digest      BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    event_id    BYTEA NOT NULL CHECK (length(event_id) = 16),
    recorded_at BIGINT NOT NULL
);

-- Finds what has been kept long enough.
CREATE INDEX used_code_by_age ON used_code (recorded_at);

-- Records decisions as before. A job may also carry the digest of a code, which its acceptance uses up: when another event has used it, the
-- job becomes a rejection, key_already_used. Connectors of earlier releases send none, and see no difference.
--
-- The key of used_code is the arbiter, as the keys of decision are. An acceptance is written first, and its code only then: a job
-- that ends as a replay or a mismatch never comes to write one. Two connectors with one event and one code: one of them writes the
-- decision, the other finds it and answers from it. Two events with one code: whoever is second at its key waits for the first to
-- commit and then finds the code taken, or free if the first has failed. A code past its retention counts as free, and so does one
-- that this very event has used: its decision has gone first, or this one could not have been written.
--
-- Events come in one order, but their codes do not, so that two batches could hold one code each and wait for the other's. That is
-- why all codes of a batch that are not used up yet are taken beforehand, in an order of their own, by locks that end with the
-- transaction: whoever waits for one of them holds no row yet, and whoever holds rows waits for none of them. A code that is used up
-- is only looked at, which locks nothing. The locks order those who wait, and decide nothing: were one missed, as when a code is
-- swept between, its key would still decide, and a lock_timeout end the wait.
CREATE OR REPLACE FUNCTION record_decisions(jobs TEXT)
RETURNS TABLE (
    number INTEGER, outcome TEXT, recorded_at BIGINT, denial TEXT, visitor_id TEXT, visitor_type TEXT, device_id TEXT,
    payment_source TEXT, session_effect TEXT, session_id BIGINT
)
-- The plans are kept for as long as a connection lives, and one that was made while the tables were empty would read them whole.
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
    -- Not for a batch without codes, which need not be read twice. What is used up already nobody has to wait for.
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
                        -- None is open, or those that were have been closed while they were waited for: then one may have been
                        -- opened since.
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
            -- Somebody else was first: look again.
            CONTINUE WHEN NOT FOUND;

            IF job.denial IS NULL AND job.code IS NOT NULL THEN
                DELETE FROM used_code u
                WHERE u.digest = decode(job.code, 'hex')
                    AND (u.event_id = job.event_id OR u.recorded_at < job.kept_since);
                INSERT INTO used_code (digest, event_id, recorded_at)
                VALUES (decode(job.code, 'hex'), job.event_id, job.recorded_at) ON CONFLICT DO NOTHING;
                IF NOT FOUND THEN
                    -- Another event has it. Nobody has seen this acceptance, and it has done nothing yet: it goes, and what is left
                    -- to record is a rejection, by the rules of any other.
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
