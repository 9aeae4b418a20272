//! Starts with a PostgreSQL server that cannot serve yet: the start waits, logs the reason, and continues by itself.

use crate::trials::{apply, with_database};
use std::time::{Duration, Instant};

use crate::checks::wait_until;
use crate::engine::Database;
use crate::support::Starting;

fn serve(database: &Database) -> Starting {
    Starting::run(&["serve"], &database.settings())
}

fn stop(process: Starting) {
    process.signal("TERM");
    let (code, log) = process.wait_for_end();
    assert_eq!(code, Some(0), "{log:#?}");
}

#[apply(with_database)]
async fn start_waits_for_locked_migrations_up_to_its_limit(database: Database) {
    let databases = [database, Database::new()];
    for database in &databases {
        let mut process = serve(database);
        process.wait_for_log("\"message\":\"ready\"");
        stop(process);
    }
    let [released, held] =
        databases.each_ref().map(|database| database.begin("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE"));
    let [mut waits, gives_up] = databases.each_ref().map(serve);
    let export = Starting::run(&["export"], &databases[1].settings());
    let line = waits.wait_for_log("lock timeout");
    assert!(line.contains("does not answer yet") && line.contains("migrating its schema"), "{line}");
    drop(released);
    waits.wait_for_log("\"message\":\"ready\"");
    stop(waits);
    for process in [gives_up, export] {
        let (code, log) = process.wait_for_end();
        assert_eq!(code, Some(1), "{log:#?}");
        let last = log.last().unwrap();
        assert!(last.contains("no answer within 30 s") && last.contains("lock timeout"), "{log:#?}");
    }
    drop(held);
}

#[apply(with_database)]
async fn start_waits_for_a_read_only_server(database: Database) {
    database.set_read_only(true);
    let mut process = serve(&database);
    let line = process.wait_for_log("does not answer yet");
    assert!(
        line.contains("read-only transaction") && line.contains("it is a standby; set the primary's address"),
        "{line}"
    );
    database.set_read_only(false);
    process.wait_for_log("\"message\":\"ready\"");
    stop(process);
}

#[apply(with_database)]
async fn start_fails_immediately_without_privileges(database: Database) {
    // The role owns the database but not the schema.
    database.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public; REVOKE CREATE ON SCHEMA public FROM connector");
    let (code, log) = serve(&database).wait_for_end();
    assert_eq!(code, Some(64), "{log:#?}");
    assert!(log.last().unwrap().contains("permission denied for schema public"), "{log:#?}");
}

/// Locks the table that each step needs: the hash key, the schema, the directory.
#[apply(with_database)]
async fn signal_ends_a_start_immediately_at_every_step(database: Database) {
    let mut process = serve(&database);
    process.wait_for_log("\"message\":\"ready\"");
    stop(process);
    for (table, command, code) in [
        ("property", "serve", 0),
        ("_sqlx_migrations", "serve", 0),
        ("registration", "serve", 0),
        ("property", "export", 1),
        ("_sqlx_migrations", "export", 1),
    ] {
        let held = database.begin(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        let process = Starting::run(&[command], &database.settings());
        wait_until("the start waits", async || database.waiting() > 0).await;
        let began = Instant::now();
        process.signal("TERM");
        let (ended, log) = process.wait_for_end();
        assert_eq!(ended, Some(code), "{command}, {table}: {log:#?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{command}, {table}: {:?}", began.elapsed());
        drop(held);
        wait_until("nothing waits", async || database.waiting() == 0).await;
    }
}

#[apply(with_database)]
async fn refused_start_leaves_an_empty_database_empty(database: Database) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"stores":[{"id":""}]}"#).unwrap();
    let file = [("directory.file", file.path().to_str().unwrap())];
    let (code, log) = Starting::run(&["serve"], &[&database.settings()[..], &file].concat()).wait_for_end();
    assert_eq!(code, Some(64), "{log:#?}");
    assert_eq!(database.tables(), 0);
}
