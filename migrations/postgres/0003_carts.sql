-- Shopping carts. One row for each owner who has carts. An owner without carts has a row only while it is locked.
CREATE TABLE basket (
    -- The customer's HMAC-SHA-256 under security.hash_key.
    owner      BYTEA NOT NULL PRIMARY KEY CHECK (length(owner) = 32),
    -- 1 if the owner has not signed in. Such carts expire some time after their last change.
    anonymous  SMALLINT NOT NULL CHECK (anonymous IN (0, 1)),
    -- All carts of the owner, as a JSON array.
    carts      TEXT NOT NULL,
    -- The time of the last change of any of these carts.
    changed_at BIGINT NOT NULL
);

-- Finds expired carts.
CREATE INDEX basket_by_change ON basket (changed_at) WHERE anonymous = 1;
