//! Starts with a PostgreSQL server that cannot serve yet: the start waits, logs the reason, and continues by itself.

use crate::trials::{apply, with_database};
use std::time::{Duration, Instant};

use crate::checks::wait_until;
use crate::engine::Database;
use crate::support::{Process, file_with};

fn serve(database: &Database) -> Process {
    Process::run(&["serve"], &database.settings())
}

fn stop(process: Process) {
    let ended = process.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[apply(with_database)]
async fn start_waits_for_locked_migrations_up_to_its_limit(database: Database) {
    let databases = [database, Database::new()];
    for database in &databases {
        let process = serve(database);
        process.wait_for_log("\"message\":\"ready\"");
        stop(process);
    }
    let [released, held] =
        databases.each_ref().map(|database| database.begin("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE"));
    let [waits, gives_up] = databases.each_ref().map(serve);
    let export = Process::run(&["export"], &databases[1].settings());
    let line = waits.wait_for_log("lock timeout");
    assert!(line.contains("does not answer yet") && line.contains("migrating its schema"), "{line}");
    drop(released);
    waits.wait_for_log("\"message\":\"ready\"");
    stop(waits);
    for process in [gives_up, export] {
        let ended = process.wait_for_end();
        let last = ended.stderr.lines().last().unwrap();
        assert!(last.contains("no answer within 30 s") && last.contains("lock timeout"), "{ended:?}");
        assert_eq!(ended.code, Some(1), "{ended:?}");
    }
    drop(held);
}

#[apply(with_database)]
async fn start_waits_for_a_read_only_server(database: Database) {
    database.set_read_only(true);
    let process = serve(&database);
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
    let ended = serve(&database).wait_for_end();
    assert_eq!(ended.code, Some(64), "{ended:?}");
    assert!(ended.stderr.lines().last().unwrap().contains("permission denied for schema public"), "{ended:?}");
}

/// Locks the table that each step needs: the hash key, the schema, the directory.
#[apply(with_database)]
async fn signal_ends_a_start_immediately_at_every_step(database: Database) {
    let process = serve(&database);
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
        let process = Process::run(&[command], &database.settings());
        wait_until("the start waits", async || database.waiting() > 0).await;
        let began = Instant::now();
        let ended = process.stop();
        assert_eq!(ended.code, Some(code), "{command}, {table}: {ended:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{command}, {table}: {:?}", began.elapsed());
        drop(held);
        wait_until("nothing waits", async || database.waiting() == 0).await;
    }
}

#[apply(with_database)]
async fn refused_start_leaves_an_empty_database_empty(database: Database) {
    let file = file_with(r#"{"stores":[{"id":""}]}"#);
    let file = [("directory.file", file.path().to_str().unwrap())];
    let ended = Process::run(&["serve"], &[&database.settings()[..], &file].concat()).wait_for_end();
    assert_eq!(ended.code, Some(64), "{ended:?}");
    assert_eq!(database.tables(), 0);
}
