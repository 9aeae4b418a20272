-- The links between customers of OpenID providers and shoppers, and the short-lived recognition tokens of their apps.
-- These rows are deleted together with their shopper, so that a connector of the previous release, which does not know
-- these tables, can erase one.

-- Every change of the directory locks this table first, so no change is in progress while the tables below are locked.
LOCK TABLE directory_version IN EXCLUSIVE MODE;

-- A customer is identified by issuer and subject. Only their HMAC-SHA-256 under security.hash_key is stored.
CREATE TABLE customer (
    digest     BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT COLLATE "C" NOT NULL REFERENCES shopper (id) ON DELETE CASCADE
);

-- Finds the customers of a shopper.
CREATE INDEX customer_by_shopper ON customer (shopper_id);

-- The recognition tokens of apps' Scan Key Codes, as HMAC-SHA-256. From expires_at on (nanoseconds since 1970 by the
-- connector's clock), a token counts as unknown.
CREATE TABLE issued_token (
    digest     BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT COLLATE "C" NOT NULL REFERENCES shopper (id) ON DELETE CASCADE,
    -- The device of the token, if it has one.
    device_id  TEXT,
    expires_at BIGINT NOT NULL
);

-- Finds a shopper's oldest token.
CREATE INDEX issued_token_by_shopper ON issued_token (shopper_id, expires_at);
-- Finds expired tokens.
CREATE INDEX issued_token_by_expiry ON issued_token (expires_at);

-- The audit also lists changes of customers.
ALTER TABLE audit DROP CONSTRAINT audit_kind_check;
ALTER TABLE audit ADD CONSTRAINT audit_kind_check
    CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token', 'customer'));
