-- Until when an app was told that its Scan Key Code is valid, nanoseconds since 1970 by our clock. 0 where a connector of an earlier
-- release issued the token: then only the store's window counts, as before.
ALTER TABLE issued_token ADD COLUMN promised_until BIGINT NOT NULL DEFAULT 0;
