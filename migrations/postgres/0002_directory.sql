-- The directory: stores, shoppers, their keys and tokens, and the audit of changes.

CREATE TABLE store (
    id                    TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    enabled               SMALLINT NOT NULL CHECK (enabled IN (0, 1)),
    takes_cash            SMALLINT NOT NULL CHECK (takes_cash IN (0, 1)),
    -- Amazon's setting, kept for reference.
    default_gate_decision TEXT NOT NULL CHECK (default_gate_decision IN ('open', 'closed')),
    -- How long a Scan Key Code is valid, in seconds.
    scan_key_window       SMALLINT NOT NULL CHECK (scan_key_window BETWEEN 30 AND 90),
    exit_policy           TEXT NOT NULL CHECK (exit_policy IN ('let_out', 'check_account'))
);

CREATE TABLE shopper (
    id             TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    type           TEXT NOT NULL CHECK (type IN ('SHOPPER', 'ASSOCIATE', 'CASH_SHOPPER')),
    account        TEXT NOT NULL CHECK (account IN ('active', 'flagged')),
    -- The payment method: its name, which is optional, and the last month in which it is valid (2099-12).
    payment_source TEXT,
    last_month     TEXT,
    -- The ids of the shopper's devices, a JSON array of texts.
    devices        TEXT NOT NULL,
    CHECK (payment_source IS NULL OR last_month IS NOT NULL)
);

-- Identity keys (badges, static codes) and recognition tokens of Scan Key Codes, each of a shopper. Only their
-- HMAC-SHA-256 under security.hash_key is stored.
CREATE TABLE registration (
    kind       TEXT NOT NULL CHECK (kind IN ('identity_key', 'recognition_token')),
    digest     BYTEA NOT NULL CHECK (length(digest) = 32),
    -- Only a revoked row may have no shopper.
    shopper_id TEXT COLLATE "C" REFERENCES shopper (id),
    -- The device of the key or token, if it has one.
    device_id  TEXT,
    -- The only channel by which the key may be read, if it is limited to one.
    channel    TEXT CHECK (channel IN ('OPTICAL', 'RADIO')),
    revoked    SMALLINT NOT NULL CHECK (revoked IN (0, 1)),
    PRIMARY KEY (kind, digest),
    CHECK (shopper_id IS NOT NULL OR revoked = 1)
);

-- Finds the keys and tokens of a shopper.
CREATE INDEX registration_by_shopper ON registration (shopper_id);

-- The audit of all changes: the time, the action and its subject. Keys and tokens are listed by their digests in
-- hexadecimal.
CREATE TABLE audit (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    action  TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token')),
    subject TEXT NOT NULL
);

-- One row. Each transaction that changes the directory increments `version`; one that erases a shopper also increments
-- `erasures`. A connector that reads another number than before clears its cache.
CREATE TABLE directory_version (
    version  BIGINT NOT NULL,
    erasures BIGINT NOT NULL
);
INSERT INTO directory_version VALUES (1, 1);
