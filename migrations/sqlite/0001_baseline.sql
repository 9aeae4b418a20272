-- The ledger and the directory. Times are nanoseconds since 1970 by the connector's clock, unless a column
-- says otherwise.

-- Properties of the database itself.
CREATE TABLE property (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Decisions, in the order of recording. An accepted entry is also the session of its visitor. Session and decision are
-- deleted together when ledger.retention ends, which is never before session.max_age.
CREATE TABLE decision (
    -- Greater than all existing ids. If the newest decision is deleted, its id is used again.
    id             INTEGER PRIMARY KEY,
    event_id       BLOB NOT NULL CHECK (length(event_id) = 16),
    -- 0 for an acceptance, 1 to 8 for a rejection. So an event has at most one acceptance and eight rejections.
    slot           INTEGER NOT NULL CHECK (slot BETWEEN 0 AND 8),
    -- Identifies the scan by its identity key, store and location. The key itself is not stored.
    fingerprint    BLOB NOT NULL CHECK (length(fingerprint) = 32),
    recorded_at    INTEGER NOT NULL,
    -- By the gate's clock, in the format of RFC 3339, since it may be in any year from 0 to 9999.
    event_time     TEXT NOT NULL,
    location       TEXT NOT NULL CHECK (location IN ('ENTRY', 'EXIT')),
    channel        TEXT CHECK (channel IN ('OPTICAL', 'RADIO')),
    store_id       TEXT NOT NULL,
    -- The name of the caller that sent the scan, if callers are configured.
    caller         TEXT,
    -- The reason of a rejection; null for an acceptance.
    denial         TEXT,
    -- The visitor, also of a rejection if the key or code has identified one.
    visitor_id     TEXT,
    visitor_type   TEXT CHECK (visitor_type IN ('SHOPPER', 'ASSOCIATE', 'CASH_SHOPPER')),
    device_id      TEXT,
    payment_source TEXT,
    -- Of an accepted entry: the id of the exit that has closed its session. Of an accepted exit: the id of the entry
    -- whose session it has closed. A session without an exit is open until it is older than session.max_age.
    counterpart    INTEGER,
    -- The Scan Key Code that the acceptance has used, if codes are single-use, as HMAC-SHA-256 under security.hash_key.
    code           BLOB CHECK (length(code) = 32),
    CHECK ((slot = 0) = (denial IS NULL)),
    CHECK ((visitor_id IS NULL) = (visitor_type IS NULL)),
    CHECK (visitor_id IS NOT NULL OR denial IS NOT NULL)
) STRICT;

-- Finds the decisions of an event.
CREATE UNIQUE INDEX decision_by_event ON decision (event_id, slot);
-- Finds the oldest open session of a visitor at a store.
CREATE INDEX open_session ON decision (visitor_id, store_id, recorded_at)
    WHERE location = 'ENTRY' AND denial IS NULL AND counterpart IS NULL;
-- Finds the use of a code.
CREATE UNIQUE INDEX used_code ON decision (code) WHERE code IS NOT NULL;

CREATE TABLE store (
    id                    TEXT NOT NULL PRIMARY KEY,
    enabled               INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    takes_cash            INTEGER NOT NULL CHECK (takes_cash IN (0, 1)),
    -- Amazon's setting, kept for reference.
    default_gate_decision TEXT NOT NULL CHECK (default_gate_decision IN ('open', 'closed')),
    -- How long a Scan Key Code is valid, in seconds.
    scan_key_window       INTEGER NOT NULL CHECK (scan_key_window BETWEEN 30 AND 90),
    exit_policy           TEXT NOT NULL CHECK (exit_policy IN ('let_out', 'check_account'))
) STRICT, WITHOUT ROWID;

CREATE TABLE shopper (
    id             TEXT NOT NULL PRIMARY KEY,
    type           TEXT NOT NULL CHECK (type IN ('SHOPPER', 'ASSOCIATE', 'CASH_SHOPPER')),
    account        TEXT NOT NULL CHECK (account IN ('active', 'flagged')),
    -- The payment method: its name, which is optional, and the last month in which it is valid (2099-12).
    payment_source TEXT,
    last_month     TEXT,
    -- The ids of the shopper's devices, a JSON array of texts.
    devices        TEXT NOT NULL,
    CHECK (payment_source IS NULL OR last_month IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- Identity keys (badges, static codes) and recognition tokens of Scan Key Codes, each of a shopper. Only their
-- HMAC-SHA-256 under security.hash_key is stored.
CREATE TABLE registration (
    kind       TEXT NOT NULL CHECK (kind IN ('identity_key', 'recognition_token')),
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    -- Only a revoked row may have no shopper.
    shopper_id TEXT REFERENCES shopper (id),
    -- The device of the key or token, if it has one.
    device_id  TEXT,
    -- The only channel by which the key may be read, if it is limited to one.
    channel    TEXT CHECK (channel IN ('OPTICAL', 'RADIO')),
    revoked    INTEGER NOT NULL CHECK (revoked IN (0, 1)),
    PRIMARY KEY (kind, digest),
    CHECK (shopper_id IS NOT NULL OR revoked = 1)
) STRICT, WITHOUT ROWID;

-- Finds the keys and tokens of a shopper.
CREATE INDEX registration_by_shopper ON registration (shopper_id);

-- The audit of all changes: the time, the action and its subject. Keys and tokens are listed by their digests in
-- hexadecimal.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    action  TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token', 'customer')),
    subject TEXT NOT NULL
) STRICT;

-- One row. Each transaction that changes the directory increments `version`; one that erases a shopper also increments
-- `erasures`. A connector that reads another number than before clears its cache.
CREATE TABLE directory_version (
    version  INTEGER NOT NULL,
    erasures INTEGER NOT NULL
) STRICT;
INSERT INTO directory_version VALUES (1, 1);

-- A customer is identified by issuer and subject. Only their HMAC-SHA-256 under security.hash_key is stored.
CREATE TABLE customer (
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT NOT NULL REFERENCES shopper (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Finds the customers of a shopper.
CREATE INDEX customer_by_shopper ON customer (shopper_id);

-- The short-lived recognition tokens of apps' Scan Key Codes, as HMAC-SHA-256. From expires_at on, a token counts as
-- unknown.
CREATE TABLE issued_token (
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT NOT NULL REFERENCES shopper (id) ON DELETE CASCADE,
    -- The device of the token, if it has one.
    device_id  TEXT,
    expires_at INTEGER NOT NULL,
    -- The end of the Scan Key Code's validity that the app was given.
    promised_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds a shopper's oldest token.
CREATE INDEX issued_token_by_shopper ON issued_token (shopper_id, expires_at);
-- Finds expired tokens.
CREATE INDEX issued_token_by_expiry ON issued_token (expires_at);
