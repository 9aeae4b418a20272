//! A database that answers, but is busy or locked: scans fail in time, a scan that has failed is not recorded later,
//! and work that no gate waits for takes no connection from scans.

use crate::trials::{apply, with_database};
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::Database;
use crate::engines::outage::{TIME_LIMIT, assert_500_in_time, assert_consistent, verify_timed};
use crate::support::{LISTS, Server, scan, scan_with_key};

/// No record can be written. Every scan fails in time, later ones immediately, and none of them is recorded later, when
/// its shopper has left.
#[apply(with_database)]
async fn locked_table_fails_scans_in_time(database: Database) {
    let server = Arc::new(Server::demo(&database.settings()).await);
    assert_eq!(server.verify(&scan()).await.status, 200);
    let held = database.begin("LOCK TABLE decision IN ACCESS EXCLUSIVE MODE");
    let asked: Vec<_> = (0..40).map(|_| scan()).collect();
    let mut under_way = JoinSet::new();
    for body in asked.clone() {
        let server = Arc::clone(&server);
        under_way.spawn(async move { verify_timed(&server, &body).await });
    }
    for outcome in under_way.join_all().await {
        assert_500_in_time(&outcome, "while the table is locked");
    }
    // All scans so far have one shopper's key. Failures of several keys are needed to open the breaker.
    wait_until("the connector is degraded", async || {
        server.verify(&scan_with_key(new_id().as_bytes())).await;
        server.readiness().await == "degraded"
    })
    .await;
    drop(held);
    wait_until("a scan passes", async || server.verify(&scan_with_key(b"associate_key")).await.status == 200).await;
    let sessions = server.sessions().await;
    let of_shopper = sessions.iter().filter(|session| session["visitor"]["type"] == "SHOPPER").count();
    assert_eq!(of_shopper, 1, "scans that got a 500 were not recorded");
    assert_consistent(&server, &asked[..4]).await;
}

/// More lists wait for a lock than there are connections.
#[apply(with_database)]
async fn lists_take_no_connection_from_scans(database: Database) {
    let few = [("storage.max_connections", "4")];
    let server = Arc::new(Server::demo(&[&database.settings()[..], &few].concat()).await);
    let held = database.begin("LOCK TABLE audit IN ACCESS EXCLUSIVE MODE");
    let mut lists = JoinSet::new();
    for _ in 0..12 {
        let list = server.client.get(format!("{}/admin/v1/audit", server.management));
        lists.spawn(async move { list.send().await.unwrap().status() });
    }
    for _ in 0..20 {
        let (answer, elapsed) = verify_timed(&server, &scan_with_key(new_id().as_bytes())).await;
        assert_refused(&answer, 401, KEY_NOT_FOUND, "while the lists wait");
        assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
        assert_eq!(server.readiness().await, "ready");
    }
    drop(held);
    lists.join_all().await;
}

/// The server answers, but not all scans in time. No scan gets a 500: too many scans are no fault of the connector, and
/// a shopper could cause them.
#[apply(with_database)]
async fn slow_server_causes_429_and_no_500(database: Database) {
    let server = Arc::new(Server::demo(&database.settings()).await);
    database.query(
        "ALTER TABLE registration RENAME TO registered;
         CREATE VIEW registration AS SELECT r.* FROM (SELECT pg_sleep(0.1)::TEXT AS slept OFFSET 0) AS slowly,
             LATERAL (SELECT * FROM registered WHERE slowly.slept IS NOT NULL OFFSET 0) AS r",
    );
    // On a busy machine many concurrent scans may miss their deadline because they get no processor. Then fewer are
    // tried.
    for scans in [400, 200, 100] {
        let mut under_way = JoinSet::new();
        for _ in 0..scans {
            let server = Arc::clone(&server);
            under_way.spawn(async move { verify_timed(&server, &scan_with_key(new_id().as_bytes())).await });
        }
        let (mut decided, mut faults) = (0, 0);
        for (answer, elapsed) in under_way.join_all().await {
            assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
            match answer.status {
                401 => decided += 1,
                500 => faults += 1,
                _ => assert_too_many(&answer, "one of many scans"),
            }
        }
        if faults == 0 {
            assert!((1..scans).contains(&decided), "{decided}");
            assert_eq!(server.readiness().await, "ready");
            return;
        }
        wait_until("the connector is ready", async || server.readiness().await == "ready").await;
    }
    panic!("some scans got a 500 each time");
}

/// After a failover, the connections may lead to a server that is now a standby.
#[apply(with_database)]
async fn read_only_server_degrades_and_recovers(database: Database) {
    let server = Server::demo(&database.settings()).await;
    let recorded = scan();
    assert_eq!(server.verify(&recorded).await.status, 200);
    database.set_read_only(true);
    database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()");
    wait_until("the connector is degraded", async || {
        let outcome = verify_timed(&server, &scan_with_key(new_id().as_bytes())).await;
        assert_500_in_time(&outcome, "while the server is read-only");
        server.readiness().await == "degraded"
    })
    .await;
    assert_eq!(server.verify(&retry(&recorded)).await.status, 200, "a cached record is answered");
    database.set_read_only(false);
    wait_until("a scan passes", async || {
        let (answer, elapsed) = verify_timed(&server, &scan()).await;
        assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
        answer.status == 200
    })
    .await;
}

/// During a rolling update, the next release has changed the schema while this release still runs.
#[apply(with_database)]
async fn columns_of_a_later_release_are_ignored(database: Database) {
    let server = Server::demo(&database.settings()).await;
    let other = server.replica().await;
    let asked = [
        scan(),
        scan_with_key(b"flagged_shopper_key"),
        scan_with("identityKey", base64(code(SCANNED_AT, ""))),
        scan_with("authEvent.location", "EXIT"),
    ];
    for round in 0..2 {
        for body in &asked {
            let again = set(retry(body), "authEvent.id", new_id());
            let first = server.verify(&again).await;
            assert_ne!(first.status, 500, "round {round}");
            // The other connector has no record of the event in memory.
            assert_all_same([&first, &other.verify(&retry(&again)).await]);
        }
        for (list, _) in LISTS {
            assert_eq!(server.admin("GET", list).await.status, 200, "{list}, round {round}");
        }
        server.put("customers", &json!({ "issuer": "i", "subject": "s", "shopper": "shopper-uuid-001" })).await;
        let tables = database.query("SELECT relname FROM pg_stat_user_tables WHERE relname <> '_sqlx_migrations'");
        let add: Vec<_> =
            tables.lines().map(|table| format!("ALTER TABLE {table} ADD COLUMN later_{round} TEXT")).collect();
        database.query(&add.join("; "));
        // Makes the connector read everything again.
        database.query("UPDATE directory_version SET version = version + 1");
    }
    // A connector that starts on this schema works as well.
    let fresh = server.replica().await;
    assert_eq!(fresh.verify(&scan()).await.status, 200);
}
