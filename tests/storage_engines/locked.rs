//! One scan that cannot be recorded, since somebody holds what it would write: it is told so in time, whenever it asks, and what
//! one key provokes is not taken for the database's health. Others pass.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::{on_a_postgres_of_its_own, properties};
use crate::outage::{IN_TIME, RECOVERY, assert_consistent, assert_our_fault_in_time, readiness, timed, until};
use crate::support::{Postgres, Server, scan, scan_with_key};

pub(crate) fn trials() -> Vec<Trial> {
    on_a_postgres_of_its_own(
        module_path!(),
        properties![an_event_that_somebody_has_begun_to_record, a_visitor_whose_sessions_somebody_holds,],
    )
}

/// While one scan fails and fails again, others pass, and the connector does not think its database away.
async fn is_nobody_elses_trouble(server: &Arc<Server>, stuck: &Value) {
    let retries = {
        let (server, stuck) = (Arc::clone(server), stuck.clone());
        tokio::spawn(async move {
            let mut failures = 0;
            for _ in 0..4 {
                let mut running = JoinSet::new();
                for _ in 0..4 {
                    let (server, body) = (Arc::clone(&server), retry(&stuck));
                    running.spawn(async move { timed(&server, &body).await });
                }
                for outcome in running.join_all().await {
                    assert_our_fault_in_time(&outcome, "the one that is locked");
                    failures += 1;
                }
            }
            failures
        })
    };
    let mut passed = 0;
    while !retries.is_finished() || passed < 20 {
        let (answer, elapsed) = timed(server, &scan_with_key(b"associate_key")).await;
        assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", "another scan");
        assert!(elapsed < IN_TIME, "{elapsed:?}");
        assert_eq!(readiness(server).await, "ready");
        passed += 1;
    }
    assert_eq!(retries.await.unwrap(), 16);
}

/// Somebody has begun to record the same event, and does not end.
async fn an_event_that_somebody_has_begun_to_record(postgres: Postgres) {
    let url = postgres.database();
    let server = Arc::new(Server::postgres(&url, &[]).await);
    let (model, stuck) = (scan(), scan());
    assert_eq!(server.verify(&model).await.status, 200);
    let id = |body: &Value| body["authEvent"]["id"].as_str().unwrap().replace('-', "");
    let kind =
        "SELECT data_type FROM information_schema.columns WHERE table_name = 'decision' AND column_name = 'event_id'";
    let prefix = if postgres.query(&url, kind).trim() == "bytea" { "\\x" } else { "" };
    let locked = postgres.begin(
        &url,
        &format!(
            "CREATE TEMP TABLE copy AS SELECT * FROM decision WHERE event_id = '{prefix}{}';
             UPDATE copy SET event_id = '{prefix}{}';
             INSERT INTO decision SELECT * FROM copy",
            id(&model),
            id(&stuck),
        ),
    );
    is_nobody_elses_trouble(&server, &stuck).await;
    drop(locked);
    until(RECOVERY, "it passes", async || server.verify(&retry(&stuck)).await.status == 200).await;
    assert_consistent(&server, &[model, stuck]).await;
}

/// Somebody holds every session there is; an exit would close one of them.
async fn a_visitor_whose_sessions_somebody_holds(postgres: Postgres) {
    let url = postgres.database();
    let server = Arc::new(Server::postgres(&url, &[]).await);
    let (entry, stuck) = (scan(), scan_with("authEvent.location", "EXIT"));
    assert_eq!(server.verify(&entry).await.status, 200);
    let locked = postgres.begin(&url, "SELECT 1 FROM session FOR UPDATE");
    is_nobody_elses_trouble(&server, &stuck).await;
    drop(locked);
    until(RECOVERY, "it passes", async || server.verify(&retry(&stuck)).await.status == 200).await;
    let sessions = server.sessions().await;
    let of_shopper: Vec<_> = sessions.iter().filter(|session| session["visitor"]["type"] == "SHOPPER").collect();
    assert_eq!((of_shopper.len(), &of_shopper[0]["state"]), (1, &json!("closed")));
    assert_eq!(of_shopper[0]["exit"]["authEventId"], stuck["authEvent"]["id"]);
}
