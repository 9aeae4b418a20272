-- A file of its own, so that no record of a scan waits for a cart.

-- One row for each thing that is known about the database itself.
CREATE TABLE property (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What shoppers mean to buy. One row for each owner who has carts; who has none has no row.
CREATE TABLE basket (
    -- The customer's HMAC-SHA-256 under security.hash_key.
    owner      BLOB NOT NULL PRIMARY KEY CHECK (length(owner) = 32),
    -- Whether the owner has not signed in: then the carts end some time after their last change.
    anonymous  INTEGER NOT NULL CHECK (anonymous IN (0, 1)),
    -- All carts of the owner, a JSON array.
    carts      TEXT NOT NULL,
    -- When one of them last changed.
    changed_at INTEGER NOT NULL
) STRICT;

-- Finds what has ended.
CREATE INDEX basket_by_change ON basket (changed_at) WHERE anonymous = 1;
