//! The schema, and the key to which a database belongs.

use sqlx::any::Any;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AssertSqlSafe, SqlSafeStr as _, query, query_scalar};

use super::{Engine, StorageError};
use crate::digest::HashKey;

/// What the database says of the key that it was made with.
const KEY_CHECK: &str = "hash key check";
/// What a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Everything; in SQLite, all but the carts.
    All,
    /// The carts, in a SQLite file of their own.
    Carts,
}

/// The schema, step by step. Steps take away nothing that a release before them asks for, and unknown ones are let be: a release runs on
/// the next one's schema.
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

/// What the database says of the key that it was made with; `None` of one that no connector has made yet.
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

#[cfg(test)]
mod tests {
    use sqlx::any::AnyConnectOptions;
    use sqlx::{ConnectOptions as _, Row as _};

    use super::*;

    /// SQLite makes the table of changes anew to widen it.
    #[tokio::test]
    async fn what_is_on_record_keeps_its_number_and_none_is_given_twice() {
        sqlx::any::install_default_drivers();
        let folder = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("c.db").display());
        let mut connection = url.parse::<AnyConnectOptions>().expect("a URL").connect().await.expect("a new database");
        let all = migrations(Engine::Sqlite, Content::All);
        let before: Vec<_> = all.iter().filter(|step| step.version < 5).cloned().collect();
        Migrator::with_migrations(before).run_direct(None, &mut connection, false).await.expect("the one before");
        let put = "INSERT INTO audit (at, action, kind, subject) VALUES (1, 'put', $1, 's')";
        for _ in 0..4 {
            query::<Any>(put).bind("store").execute(&mut connection).await.expect("put on record");
        }
        query::<Any>("DELETE FROM audit WHERE id IN (2, 4)").execute(&mut connection).await.expect("deleted");
        all.run_direct(None, &mut connection, false).await.expect("this one");

        query::<Any>(put).bind("customer").execute(&mut connection).await.expect("put on record");
        let rows = query::<Any>("SELECT id, kind FROM audit ORDER BY id").fetch_all(&mut connection).await;
        let told: Vec<(i64, String)> =
            rows.expect("a list").iter().map(|row| (row.get("id"), row.get("kind"))).collect();
        let expected = [(1, "store"), (3, "store"), (5, "customer")].map(|(id, kind)| (id, kind.to_owned()));
        assert_eq!(told, expected);
        assert!(query::<Any>(put).bind("nonsense").execute(&mut connection).await.is_err(), "it is still checked");
    }
}
