-- Carts have their own file, so that no record of a scan waits for a cart.

-- Properties of the database itself.
CREATE TABLE property (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Shopping carts. One row for each owner who has carts.
CREATE TABLE basket (
    -- The customer's HMAC-SHA-256 under security.hash_key.
    owner      BLOB NOT NULL PRIMARY KEY CHECK (length(owner) = 32),
    -- 1 if the owner has not signed in. Such carts expire some time after their last change.
    anonymous  INTEGER NOT NULL CHECK (anonymous IN (0, 1)),
    -- All carts of the owner, as a JSON array.
    carts      TEXT NOT NULL,
    -- The time of the last change of any of these carts.
    changed_at INTEGER NOT NULL
) STRICT;

-- Finds expired carts.
CREATE INDEX basket_by_change ON basket (changed_at) WHERE anonymous = 1;
