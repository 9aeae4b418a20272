//! The schema, and the key to which a database belongs.

use sqlx::any::Any;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, SqlSafeStr as _, query, query_scalar};

use super::{Engine, StorageError};
use crate::digest::HashKey;

/// What the database says of the key that it was made with.
const KEY_CHECK: &str = "hash key check";
/// The schema, step by step. Steps only ever add, and unknown ones are let be: a release runs on the next one's schema.
pub(super) fn migrations(engine: Engine) -> Migrator {
    let steps = match engine {
        Engine::Sqlite => [
            (1, "ledger", include_str!("../../migrations/sqlite/0001_ledger.sql")),
            (2, "directory", include_str!("../../migrations/sqlite/0002_directory.sql")),
            (4, "used codes", include_str!("../../migrations/sqlite/0004_used_codes.sql")),
        ],
        Engine::Postgres => [
            (1, "ledger", include_str!("../../migrations/postgres/0001_ledger.sql")),
            (2, "directory", include_str!("../../migrations/postgres/0002_directory.sql")),
            (4, "used codes", include_str!("../../migrations/postgres/0004_used_codes.sql")),
        ],
    };
    let steps = steps.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, AssertSqlSafe(sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.into());
    migrator.set_ignore_missing(true);
    migrator
}

/// A new database takes the key; an older one must have been made with it.
pub(super) async fn check_key(
    connection: &mut AnyConnection,
    hash_key: &HashKey,
    name: &str,
) -> Result<(), StorageError> {
    let check = hash_key.check_value();
    query::<Any>("INSERT INTO property (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(KEY_CHECK)
        .bind(check.as_slice())
        .execute(&mut *connection)
        .await?;
    let stored: Vec<u8> =
        query_scalar("SELECT value FROM property WHERE name = $1").bind(KEY_CHECK).fetch_one(connection).await?;
    if stored == check { Ok(()) } else { Err(StorageError::OtherKey(name.to_owned())) }
}
