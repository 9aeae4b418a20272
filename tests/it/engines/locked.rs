//! Another transaction locks the rows of a scan. The scan and its retries get a 500 in time, other scans pass, and the
//! failures of this one key do not open the database's breaker.

use crate::trials::{apply, with_database};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::Database;
use crate::engines::outage::{TIME_LIMIT, assert_500_in_time, assert_consistent, verify_timed};
use crate::support::{Server, scan, scan_with_key};

/// Asserts that other scans pass and the connector stays ready while one scan and its retries fail.
async fn assert_other_scans_pass(server: &Arc<Server>, locked_scan: &Value) {
    let retries = {
        let (server, locked_scan) = (Arc::clone(server), locked_scan.clone());
        tokio::spawn(async move {
            let mut failures = 0;
            for _ in 0..4 {
                let mut running = JoinSet::new();
                for _ in 0..4 {
                    let (server, body) = (Arc::clone(&server), retry(&locked_scan));
                    running.spawn(async move { verify_timed(&server, &body).await });
                }
                for outcome in running.join_all().await {
                    assert_500_in_time(&outcome, "the locked scan");
                    failures += 1;
                }
            }
            failures
        })
    };
    let mut passed = 0;
    while !retries.is_finished() || passed < 20 {
        let (answer, elapsed) = verify_timed(server, &scan_with_key(b"associate_key")).await;
        assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", "another scan");
        assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
        assert_eq!(server.readiness().await, "ready");
        passed += 1;
    }
    assert_eq!(retries.await.unwrap(), 16);
}

/// An open transaction has inserted a record of the same event.
#[apply(with_database)]
async fn locked_event_blocks_only_its_own_scans(database: Database) {
    let server = Arc::new(Server::demo(&database.settings()).await);
    let (recorded_scan, locked_scan) = (scan(), scan());
    assert_eq!(server.verify(&recorded_scan).await.status, 200);
    let id = |body: &Value| body["authEvent"]["id"].as_str().unwrap().replace('-', "");
    let transaction = database.begin(&format!(
        r"CREATE TEMP TABLE copy AS SELECT * FROM decision WHERE event_id = '\x{}';
          UPDATE copy SET id = -1, event_id = '\x{}';
          INSERT INTO decision SELECT * FROM copy",
        id(&recorded_scan),
        id(&locked_scan),
    ));
    assert_other_scans_pass(&server, &locked_scan).await;
    drop(transaction);
    wait_until("the scan passes", async || server.verify(&retry(&locked_scan)).await.status == 200).await;
    assert_consistent(&server, &[recorded_scan, locked_scan]).await;
}

/// Another transaction locks all rows. The exit must update the row of its entry.
#[apply(with_database)]
async fn locked_session_blocks_only_exits(database: Database) {
    let server = Arc::new(Server::demo(&database.settings()).await);
    let (entry, locked_scan) = (scan(), scan_with("authEvent.location", "EXIT"));
    assert_eq!(server.verify(&entry).await.status, 200);
    let transaction = database.begin("SELECT 1 FROM decision FOR UPDATE");
    assert_other_scans_pass(&server, &locked_scan).await;
    drop(transaction);
    wait_until("the scan passes", async || server.verify(&retry(&locked_scan)).await.status == 200).await;
    let sessions = server.sessions().await;
    let of_shopper: Vec<_> = sessions.iter().filter(|session| session["visitor"]["type"] == "SHOPPER").collect();
    assert_eq!((of_shopper.len(), &of_shopper[0]["state"]), (1, &json!("closed")));
    assert_eq!(of_shopper[0]["exit"]["authEventId"], locked_scan["authEvent"]["id"]);
}
