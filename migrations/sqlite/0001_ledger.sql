-- The ledger: decisions and sessions. Times are nanoseconds since 1970 by the connector's clock. An auth event's own
-- time, which may be in any year from 0 to 9999, is text in the format of RFC 3339.

-- Properties of the database itself.
CREATE TABLE property (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- A visit. Sessions are numbered in the order in which they were opened. A session without an exit is open until it is
-- older than session.max_age. A timeout is not written; it follows from the session's age.
CREATE TABLE session (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    visitor_id        TEXT NOT NULL,
    visitor_type      TEXT NOT NULL CHECK (visitor_type IN ('SHOPPER', 'ASSOCIATE', 'CASH_SHOPPER')),
    store_id          TEXT NOT NULL,
    device_id         TEXT,
    entry_event_id    BLOB NOT NULL CHECK (length(entry_event_id) = 16),
    entry_timestamp   TEXT NOT NULL,
    entry_recorded_at INTEGER NOT NULL,
    exit_event_id     BLOB CHECK (length(exit_event_id) = 16),
    exit_timestamp    TEXT,
    exit_recorded_at  INTEGER
) STRICT;

-- Finds the oldest open session of a visitor at a store.
CREATE INDEX session_open ON session (visitor_id, store_id, id) WHERE exit_event_id IS NULL;
-- Finds expired rows.
CREATE INDEX session_by_exit ON session (exit_recorded_at) WHERE exit_event_id IS NOT NULL;
CREATE INDEX session_by_entry ON session (entry_recorded_at) WHERE exit_event_id IS NULL;

-- A decision. It never changes, and is deleted when its retention ends. An event has at most one acceptance, and one
-- record for each fingerprint.
CREATE TABLE decision (
    event_id       BLOB NOT NULL CHECK (length(event_id) = 16),
    fingerprint    BLOB NOT NULL CHECK (length(fingerprint) = 32),
    recorded_at    INTEGER NOT NULL,
    -- The reason of a rejection, by its stable word; null for an acceptance.
    denial         TEXT,
    -- The accepted visitor, as in the answer to the gate.
    visitor_id     TEXT,
    visitor_type   TEXT,
    device_id      TEXT,
    payment_source TEXT,
    -- The effect: opened or closed this session, or none_open; null for a rejection.
    session_effect TEXT CHECK (session_effect IN ('opened', 'closed', 'none_open')),
    session_id     INTEGER,
    PRIMARY KEY (event_id, fingerprint),
    CHECK ((denial IS NULL) = (visitor_id IS NOT NULL)),
    CHECK ((denial IS NULL) = (session_effect IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX decision_one_acceptance ON decision (event_id) WHERE denial IS NULL;
-- Finds expired rows.
CREATE INDEX decision_by_age ON decision (recorded_at);
