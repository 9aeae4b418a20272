-- Who is known: stores, shoppers, and the keys and tokens that stand for them; and what was changed about them.

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
    -- The payment method: its name, which it need not have, and the last month in which it is valid (2099-12).
    payment_source TEXT,
    last_month     TEXT,
    -- The ids of the shopper's devices, a JSON array of texts.
    devices        TEXT NOT NULL,
    CHECK (payment_source IS NULL OR last_month IS NOT NULL)
);

-- What stands for a shopper: an identity key (a badge, a static code) or the recognition token of Scan Key Codes. Neither is
-- kept, only its HMAC-SHA-256 under security.hash_key.
CREATE TABLE registration (
    kind       TEXT NOT NULL CHECK (kind IN ('identity_key', 'recognition_token')),
    digest     BYTEA NOT NULL CHECK (length(digest) = 32),
    -- Only what is revoked may belong to nobody.
    shopper_id TEXT COLLATE "C" REFERENCES shopper (id),
    -- The device that it stands for, if it stands for one.
    device_id  TEXT,
    -- The only channel by which it may be read, if it is limited to one.
    channel    TEXT CHECK (channel IN ('OPTICAL', 'RADIO')),
    revoked    SMALLINT NOT NULL CHECK (revoked IN (0, 1)),
    PRIMARY KEY (kind, digest),
    CHECK (shopper_id IS NOT NULL OR revoked = 1)
);

-- Finds what stands for a shopper.
CREATE INDEX registration_by_shopper ON registration (shopper_id);

-- Every change of the above: when, what was done, and to whom. Keys and tokens go by their digests in hexadecimal.
CREATE TABLE audit (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      BIGINT NOT NULL,
    action  TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token')),
    subject TEXT NOT NULL
);

-- One row. Each transaction that changes the directory raises the first number, each one that erases a shopper also the second:
-- whoever has seen another number forgets what they remember.
CREATE TABLE directory_version (
    version  BIGINT NOT NULL,
    erasures BIGINT NOT NULL
);
INSERT INTO directory_version VALUES (1, 1);
