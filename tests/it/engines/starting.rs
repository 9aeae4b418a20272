//! Starts with a PostgreSQL server that cannot serve yet: the start waits, logs the reason, and continues by itself.

use crate::trials::{apply, with_postgres};
use std::time::{Duration, Instant};

use crate::checks::PATIENCE;

use crate::engines::outage::wait_until;
use crate::support::{HASH_KEY, Postgres, Starting};

fn serve(url: &str) -> Starting {
    Starting::run(&["serve"], &[("storage.url", url), ("security.hash_key", HASH_KEY)])
}

fn stop(process: Starting) {
    process.signal("TERM");
    let (code, log) = process.wait_for_end();
    assert_eq!(code, Some(0), "{log:#?}");
}

#[apply(with_postgres)]
async fn start_waits_for_locked_migrations_up_to_its_limit(postgres: Postgres) {
    let urls = [postgres.database(), postgres.database()];
    for url in &urls {
        let mut process = serve(url);
        process.wait_for_log("\"message\":\"ready\"");
        stop(process);
    }
    let [released, held] =
        urls.each_ref().map(|url| postgres.begin(url, "LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE"));
    let [mut waits, gives_up] = urls.each_ref().map(|url| serve(url));
    let export = Starting::run(&["export"], &[("storage.url", &urls[1]), ("security.hash_key", HASH_KEY)]);
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

#[apply(with_postgres)]
async fn start_waits_for_a_read_only_server(postgres: Postgres) {
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap();
    postgres.query(&url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let mut process = serve(&url);
    let line = process.wait_for_log("does not answer yet");
    assert!(
        line.contains("read-only transaction") && line.contains("it is a standby; set the primary's address"),
        "{line}"
    );
    let allowed = format!("SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET ALL");
    postgres.query(&url, &allowed);
    process.wait_for_log("\"message\":\"ready\"");
    stop(process);
}

#[apply(with_postgres)]
async fn start_fails_immediately_without_privileges(postgres: Postgres) {
    let url = postgres.database();
    // The role owns the database but not the schema.
    postgres
        .query(&url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; REVOKE CREATE ON SCHEMA public FROM connector");
    let (code, log) = serve(&url).wait_for_end();
    assert_eq!(code, Some(64), "{log:#?}");
    assert!(log.last().unwrap().contains("permission denied for schema public"), "{log:#?}");
}

/// Locks the table that each step needs: the hash key, the schema, the directory.
#[apply(with_postgres)]
async fn signal_ends_a_start_immediately_at_every_step(postgres: Postgres) {
    let url = postgres.database();
    let settings = [("storage.url", url.as_str()), ("security.hash_key", HASH_KEY)];
    let mut process = serve(&url);
    process.wait_for_log("\"message\":\"ready\"");
    stop(process);
    for (table, command, code) in [
        ("property", "serve", 0),
        ("_sqlx_migrations", "serve", 0),
        ("registration", "serve", 0),
        ("property", "export", 1),
        ("_sqlx_migrations", "export", 1),
    ] {
        let held = postgres.begin(&url, &format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
        let process = Starting::run(&[command], &settings);
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        wait_until(PATIENCE, "the start waits", async || postgres.query(&url, waits).trim() != "0").await;
        let began = Instant::now();
        process.signal("TERM");
        let (ended, log) = process.wait_for_end();
        assert_eq!(ended, Some(code), "{command}, {table}: {log:#?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{command}, {table}: {:?}", began.elapsed());
        drop(held);
        wait_until(PATIENCE, "nothing waits", async || postgres.query(&url, waits).trim() == "0").await;
    }
}

#[apply(with_postgres)]
async fn refused_start_leaves_an_empty_database_empty(postgres: Postgres) {
    let url = postgres.database();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"stores":[{"id":""}]}"#).unwrap();
    let file = file.path().to_str().unwrap();
    let settings = [("storage.url", url.as_str()), ("security.hash_key", HASH_KEY), ("directory.file", file)];
    let (code, log) = Starting::run(&["serve"], &settings).wait_for_end();
    assert_eq!(code, Some(64), "{log:#?}");
    let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(postgres.query(&url, tables).trim(), "0");
}
