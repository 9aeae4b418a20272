-- The links between customers of OpenID providers and shoppers, and the short-lived recognition tokens of their apps.
-- These rows are deleted together with their shopper, so that a connector of the previous release, which does not know
-- these tables, can erase one.

-- A customer is identified by issuer and subject. Only their HMAC-SHA-256 under security.hash_key is stored.
CREATE TABLE customer (
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT NOT NULL REFERENCES shopper (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- Finds the customers of a shopper.
CREATE INDEX customer_by_shopper ON customer (shopper_id);

-- The recognition tokens of apps' Scan Key Codes, as HMAC-SHA-256. From expires_at on (nanoseconds since 1970 by the
-- connector's clock), a token counts as unknown.
CREATE TABLE issued_token (
    digest     BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT NOT NULL REFERENCES shopper (id) ON DELETE CASCADE,
    -- The device of the token, if it has one.
    device_id  TEXT,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds a shopper's oldest token.
CREATE INDEX issued_token_by_shopper ON issued_token (shopper_id, expires_at);
-- Finds expired tokens.
CREATE INDEX issued_token_by_expiry ON issued_token (expires_at);

-- The audit also lists changes of customers. SQLite cannot change a CHECK, so the table is replaced. Every row keeps
-- its id, and ids continue after the last one that was ever used.
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
