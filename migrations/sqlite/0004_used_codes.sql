-- Scan Key Codes that an acceptance has used up, where scan_key.single_use is on: which event each one opened. A code is not kept, only
-- its HMAC-SHA-256 under security.hash_key, and for as long as the decision.
CREATE TABLE used_code (
    digest      BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    event_id    BLOB NOT NULL CHECK (length(event_id) = 16),
    recorded_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds what has been kept long enough.
CREATE INDEX used_code_by_age ON used_code (recorded_at);
