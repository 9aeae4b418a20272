//! A start against a PostgreSQL that is there and cannot serve yet: it waits, says why, and goes on by itself.

use libtest_mimic::Trial;

use crate::engine::{on_a_postgres_of_its_own, properties};
use crate::support::{HASH_KEY, Postgres, Starting};

pub(crate) fn trials() -> Vec<Trial> {
    on_a_postgres_of_its_own(
        module_path!(),
        properties![
            a_locked_table_of_migrations_is_waited_for_and_not_for_ever,
            a_server_that_only_reads_is_waited_for,
            a_role_without_rights_is_refused_at_once,
        ],
    )
}

fn serve(url: &str) -> Starting {
    Starting::of(&["serve"], &[("storage.url", url), ("security.hash_key", HASH_KEY)])
}

fn stopped(process: Starting) {
    process.signal("TERM");
    let (code, log) = process.ended();
    assert_eq!(code, Some(0), "{log:#?}");
}

async fn a_locked_table_of_migrations_is_waited_for_and_not_for_ever(postgres: Postgres) {
    let urls = [postgres.database(), postgres.database()];
    for url in &urls {
        let mut process = serve(url);
        process.says("\"message\":\"ready\"");
        stopped(process);
    }
    let [released, held] =
        urls.each_ref().map(|url| postgres.begin(url, "LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE"));
    let [mut waits, gives_up] = urls.each_ref().map(|url| serve(url));
    let export = Starting::of(&["export"], &[("storage.url", &urls[1]), ("security.hash_key", HASH_KEY)]);
    let line = waits.says("lock timeout");
    assert!(line.contains("does not answer yet") && line.contains("bringing its schema up to date"), "{line}");
    drop(released);
    waits.says("\"message\":\"ready\"");
    stopped(waits);
    for process in [gives_up, export] {
        let (code, log) = process.ended();
        assert_eq!(code, Some(1), "{log:#?}");
        let last = log.last().unwrap();
        assert!(last.contains("no answer within 30 s") && last.contains("lock timeout"), "{log:#?}");
    }
    drop(held);
}

async fn a_server_that_only_reads_is_waited_for(postgres: Postgres) {
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap();
    postgres.query(&url, &format!("ALTER DATABASE {name} SET default_transaction_read_only = on"));
    let mut process = serve(&url);
    let line = process.says("does not answer yet");
    assert!(line.contains("read-only transaction") && line.contains("it is a standby; name the primary"), "{line}");
    let allowed = format!("SET TRANSACTION READ WRITE; ALTER DATABASE {name} RESET ALL");
    postgres.query(&url, &allowed);
    process.says("\"message\":\"ready\"");
    stopped(process);
}

async fn a_role_without_rights_is_refused_at_once(postgres: Postgres) {
    let url = postgres.database();
    // The database is its role's own, and the schema is not.
    postgres
        .query(&url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; REVOKE CREATE ON SCHEMA public FROM connector");
    let (code, log) = serve(&url).ended();
    assert_eq!(code, Some(64), "{log:#?}");
    assert!(log.last().unwrap().contains("permission denied for schema public"), "{log:#?}");
}
