-- Which customers of OpenID providers are which shoppers, and the recognition tokens that their apps are given for a short while.
-- What belongs to a shopper goes with them: a connector of the last release, which does not know these tables, can erase as before.

-- Whoever changes the directory begins with this table: nobody is half way while those below are locked.
LOCK TABLE directory_version IN EXCLUSIVE MODE;

-- A customer is a provider's name and its name for them. Neither is kept, only their HMAC-SHA-256 under security.hash_key.
CREATE TABLE customer (
    digest     BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT COLLATE "C" NOT NULL REFERENCES shopper (id) ON DELETE CASCADE
);

-- Finds the customers that are a shopper.
CREATE INDEX customer_by_shopper ON customer (shopper_id);

-- The recognition token of an app's Scan Key Code, as its HMAC-SHA-256. From expires_at on, nanoseconds since 1970 by our clock, it
-- counts as not there.
CREATE TABLE issued_token (
    digest     BYTEA NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    shopper_id TEXT COLLATE "C" NOT NULL REFERENCES shopper (id) ON DELETE CASCADE,
    -- The device that it stands for, if it stands for one.
    device_id  TEXT,
    expires_at BIGINT NOT NULL
);

-- Finds a shopper's oldest.
CREATE INDEX issued_token_by_shopper ON issued_token (shopper_id, expires_at);
-- Finds what has expired.
CREATE INDEX issued_token_by_expiry ON issued_token (expires_at);

-- Who is linked with whom is put on record as well.
ALTER TABLE audit DROP CONSTRAINT audit_kind_check;
ALTER TABLE audit ADD CONSTRAINT audit_kind_check
    CHECK (kind IN ('store', 'shopper', 'identity_key', 'recognition_token', 'customer'));
