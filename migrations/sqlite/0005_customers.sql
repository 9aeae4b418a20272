-- Which customers of OpenID providers are which shoppers, and the recognition tokens that their apps are given for a short while.
-- What belongs to a shopper goes with them: a connector of the last release, which does not know these tables, can erase as before.

-- A customer is a provider's name and its name for them. Neither is kept, only their HMAC-SHA-256 under security.hash_key.
CREATE TABLE customer (
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT NOT NULL REFERENCES shopper (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Finds the customers that are a shopper.
CREATE INDEX customer_by_shopper ON customer (shopper_id);

-- The recognition token of an app's Scan Key Code, as its HMAC-SHA-256. From expires_at on, nanoseconds since 1970 by our clock, it
-- counts as not there.
CREATE TABLE issued_token (
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT NOT NULL REFERENCES shopper (id) ON DELETE CASCADE,
    -- The device that it stands for, if it stands for one.
    device_id  TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds a shopper's oldest.
CREATE INDEX issued_token_by_shopper ON issued_token (shopper_id, expires_at);
-- Finds what has expired.
CREATE INDEX issued_token_by_expiry ON issued_token (expires_at);

-- Who is linked with whom is put on record as well. SQLite cannot widen a CHECK, so the table is made anew: every row keeps its
-- number, and the next one is numbered as it would have been.
CREATE TABLE wider_audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    action  TEXT NOT NULL,
    kind    TEXT NOT NULL CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token', 'customer')),
    subject TEXT NOT NULL
) STRICT;
INSERT INTO wider_audit (id, at, action, kind, subject) SELECT id, at, action, kind, subject FROM audit ORDER BY id;
DELETE FROM sqlite_sequence WHERE name = 'wider_audit';
INSERT INTO sqlite_sequence (name, seq) SELECT 'wider_audit', seq FROM sqlite_sequence WHERE name = 'audit';
DROP TABLE audit;
ALTER TABLE wider_audit RENAME TO audit;
