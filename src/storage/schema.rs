//! The schema's migrations, and the check that a database was created with the configured hash key.

use sqlx::any::Any;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, SqlSafeStr as _, query, query_scalar};

use super::{Engine, StorageError};
use crate::digest::HashKey;

/// The property that stores the check value of the hash key that the database was created with.
const KEY_CHECK: &str = "hash key check";

/// The contents of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Everything, except that SQLite keeps the carts in another file.
    All,
    /// Only the carts, in their own SQLite file.
    Carts,
}

/// The migrations. A migration removes nothing that the previous release needs, and migrations of later releases are
/// ignored, so that a release also runs on the schema of the next one.
pub(super) fn migrations(engine: Engine, content: Content) -> Migrator {
    let steps: &[(i64, &str, &str)] = match (engine, content) {
        (Engine::Sqlite, Content::Carts) => &[(1, "carts", include_str!("../../migrations/sqlite/carts_0001.sql"))],
        (Engine::Sqlite, Content::All) => &[
            (1, "ledger", include_str!("../../migrations/sqlite/0001_ledger.sql")),
            (2, "directory", include_str!("../../migrations/sqlite/0002_directory.sql")),
            (4, "used codes", include_str!("../../migrations/sqlite/0004_used_codes.sql")),
            (5, "customers", include_str!("../../migrations/sqlite/0005_customers.sql")),
            (6, "fewer indexes", include_str!("../../migrations/sqlite/0006_fewer_indexes.sql")),
            (7, "promised codes", include_str!("../../migrations/sqlite/0007_promised_codes.sql")),
        ],
        (Engine::Postgres, _) => &[
            (1, "ledger", include_str!("../../migrations/postgres/0001_ledger.sql")),
            (2, "directory", include_str!("../../migrations/postgres/0002_directory.sql")),
            (3, "carts", include_str!("../../migrations/postgres/0003_carts.sql")),
            (4, "used codes", include_str!("../../migrations/postgres/0004_used_codes.sql")),
            (5, "customers", include_str!("../../migrations/postgres/0005_customers.sql")),
            (6, "events in turn", include_str!("../../migrations/postgres/0006_events_in_turn.sql")),
            (7, "promised codes", include_str!("../../migrations/postgres/0007_promised_codes.sql")),
        ],
    };
    let steps = steps.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, AssertSqlSafe(*sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_ignore_missing(true);
    migrator
}

/// Reads the check value of the hash key that the database was created with. `None` if no connector has created the
/// database yet.
pub(super) async fn stored_key(
    connection: &mut AnyConnection,
    engine: Engine,
) -> Result<Option<Vec<u8>>, StorageError> {
    let has_table = match engine {
        Engine::Sqlite => "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'property'",
        Engine::Postgres => "SELECT count(to_regclass('property'))",
    };
    let tables: i64 = query_scalar(has_table).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(None);
    }
    let stored = query_scalar("SELECT value FROM property WHERE name = $1").bind(KEY_CHECK);
    Ok(stored.fetch_optional(connection).await?)
}

/// Stores the key's check value in a new database. Refuses an existing database that was created with another key.
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

#[cfg(test)]
mod tests {
    use sqlx::any::AnyConnectOptions;
    use sqlx::{ConnectOptions as _, Row as _};

    use super::*;

    /// The migration replaces SQLite's audit table, since SQLite cannot change a CHECK.
    #[tokio::test]
    async fn migrated_audit_rows_keep_their_ids_and_no_id_is_used_twice() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("c.db").display());
        let mut connection = url.parse::<AnyConnectOptions>().expect("a URL").connect().await.expect("a new database");
        let all = migrations(Engine::Sqlite, Content::All);
        let before: Vec<_> = all.iter().filter(|step| step.version < 5).cloned().collect();
        Migrator::with_migrations(before).run_direct(None, &mut connection, false).await.expect("the earlier schema");
        let put = "INSERT INTO audit (at, action, kind, subject) VALUES (1, 'put', $1, 's')";
        for _ in 0..4 {
            query::<Any>(put).bind("store").execute(&mut connection).await.expect("the row is inserted");
        }
        query::<Any>("DELETE FROM audit WHERE id IN (2, 4)")
            .execute(&mut connection)
            .await
            .expect("the rows are deleted");
        all.run_direct(None, &mut connection, false).await.expect("the current schema");

        query::<Any>(put).bind("customer").execute(&mut connection).await.expect("the row is inserted");
        let rows = query::<Any>("SELECT id, kind FROM audit ORDER BY id").fetch_all(&mut connection).await;
        let listed: Vec<(i64, String)> =
            rows.expect("a list").iter().map(|row| (row.get("id"), row.get("kind"))).collect();
        let expected = [(1, "store"), (3, "store"), (5, "customer")].map(|(id, kind)| (id, kind.to_owned()));
        assert_eq!(listed, expected);
        assert!(query::<Any>(put).bind("nonsense").execute(&mut connection).await.is_err(), "the CHECK still applies");
    }
}
