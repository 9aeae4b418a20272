-- Scan Key Codes that an acceptance has used, if scan_key.single_use is on, and the event that each one opened. Only
-- the code's HMAC-SHA-256 under security.hash_key is stored, for as long as the decision.
CREATE TABLE used_code (
    digest      BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    event_id    BLOB NOT NULL CHECK (length(event_id) = 16),
    recorded_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Finds expired rows.
CREATE INDEX used_code_by_age ON used_code (recorded_at);
