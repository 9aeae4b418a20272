-- Who is known: stores, shoppers, and the keys and tokens that stand for them; and what was changed about them.

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
    -- The payment method: its name, which it need not have, and the last month in which it is valid (2099-12).
    payment_source TEXT,
    last_month     TEXT,
    -- The ids of the shopper's devices, a JSON array of texts.
    devices        TEXT NOT NULL,
    CHECK (payment_source IS NULL OR last_month IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- What stands for a shopper: an identity key (a badge, a static code) or the recognition token of Scan Key Codes. Neither is
-- kept, only its HMAC-SHA-256 under security.hash_key.
CREATE TABLE registration (
    kind       TEXT NOT NULL CHECK (kind IN ('identity_key', 'recognition_token')),
    digest     BLOB NOT NULL CHECK (length(digest) = 32),
    -- Only what is revoked may belong to nobody.
    shopper_id TEXT REFERENCES shopper (id),
    -- The device that it stands for, if it stands for one.
    device_id  TEXT,
    -- The only channel by which it may be read, if it is limited to one.
    channel    TEXT CHECK (channel IN ('OPTICAL', 'RADIO')),
    revoked    INTEGER NOT NULL CHECK (revoked IN (0, 1)),
    PRIMARY KEY (kind, digest),
    CHECK (shopper_id IS NOT NULL OR revoked = 1)
) STRICT, WITHOUT ROWID;

-- Finds what stands for a shopper.
CREATE INDEX registration_by_shopper ON registration (shopper_id);

-- Every change of the above: when, what was done, and to whom. Keys and tokens go by their digests in hexadecimal.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    action  TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token')),
    subject TEXT NOT NULL
) STRICT;

-- One row. Each transaction that changes the directory raises the first number, each one that erases a shopper also the second:
-- whoever has seen another number forgets what they remember.
CREATE TABLE directory_version (
    version  INTEGER NOT NULL,
    erasures INTEGER NOT NULL
) STRICT;
INSERT INTO directory_version VALUES (1, 1);

-- For the list of decisions, the newest first.
CREATE INDEX decision_by_recording ON decision (recorded_at, event_id, fingerprint);
