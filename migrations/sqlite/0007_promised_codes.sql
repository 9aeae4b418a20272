-- The end of the Scan Key Code's validity that the app was given, in nanoseconds since 1970 by the connector's clock. 0
-- if a connector of an earlier release issued the token: then only the store's window counts, as before.
ALTER TABLE issued_token ADD COLUMN promised_until INTEGER NOT NULL DEFAULT 0;
