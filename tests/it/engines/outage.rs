//! A database that is frozen, killed or restarted. The first scans fail in time, later ones immediately. Recorded
//! decisions are still answered, and scans pass again when the database is available.

use crate::trials::{apply, with_postgres};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::checks::*;

use crate::support::{Answer, Postgres, Server, scan, scan_with_key};

/// The contract's 1.5 s, and a wide margin for a busy machine. A scan that waited until the database is available again
/// would take longer.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(4);
/// The time limit of an answer that does not wait for the database.
const IMMEDIATE: Duration = Duration::from_millis(100);
/// The number of failures of different keys after which scans must fail immediately.
const MAX_FAILURES: usize = 16;

pub(crate) async fn verify_timed(server: &Server, body: &Value) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = server.verify(body).await;
    (answer, began.elapsed())
}

/// A scan of a new event with a new, unknown key.
fn another_scan() -> Value {
    scan_with_key(new_id().as_bytes())
}

#[track_caller]
pub(crate) fn assert_500_in_time((answer, elapsed): &(Answer, Duration), what: &str) {
    assert_refused(answer, 500, OUR_FAULT, what);
    assert!(*elapsed < TIME_LIMIT, "{what}: after {elapsed:?}");
}

/// Asserts that every scan can be repeated, that its event has one answer, and one session if it was accepted.
pub(crate) async fn assert_consistent(server: &Server, asked: &[Value]) {
    for body in asked {
        let first = server.verify(&retry(body)).await;
        assert!([200, 401].contains(&first.status), "{body}: {}", first.json());
        assert_all_same([&first, &server.verify(&retry(body)).await]);
        let event = &body["authEvent"]["id"];
        let sessions = server.sessions().await;
        let opened = sessions.iter().filter(|session| session["entry"]["authEventId"] == *event).count();
        assert_eq!(opened, usize::from(first.status == 200), "{body}");
    }
}

/// A connector with recorded decisions, and the decisions. An outage must not affect their retries.
async fn connector(postgres: &Postgres) -> (Arc<Server>, Vec<(Value, Answer)>) {
    let server = Arc::new(Server::postgres(&postgres.database(), &[]).await);
    let mut recorded = Vec::new();
    for key in ["valid_shopper_key", "device_shopper_key", "unknown_key", "flagged_shopper_key"] {
        let body = scan_with_key(key.as_bytes());
        let answer = server.verify(&body).await;
        recorded.push((body, answer));
    }
    assert_eq!(server.readiness().await, "ready");
    (server, recorded)
}

/// Runs the whole outage: the failure, the outage itself and the recovery.
async fn assert_fails_and_recovers(postgres: Postgres, fail: fn(&Postgres), recover: fn(&Postgres)) {
    let (server, recorded) = connector(&postgres).await;
    // These scans are in progress when the database fails.
    let mut asked: Vec<_> = (0..8).map(|_| scan()).collect();
    let mut under_way = JoinSet::new();
    for body in asked.clone() {
        let server = Arc::clone(&server);
        under_way.spawn(async move { verify_timed(&server, &body).await });
    }
    fail(&postgres);
    for (answer, elapsed) in under_way.join_all().await {
        assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
        // A scan that waited for a connection while others had just been answered has found the database busy.
        match answer.status {
            429 => assert_too_many(&answer, "when the database fails"),
            status => assert!(status == 200 || answer.message().as_deref() == Some(OUR_FAULT), "{status}"),
        }
    }

    let mut failures = 0;
    loop {
        let body = another_scan();
        let outcome = verify_timed(&server, &body).await;
        assert_500_in_time(&outcome, "during the outage");
        asked.push(body);
        failures += 1;
        if outcome.1 < IMMEDIATE && server.readiness().await == "degraded" {
            break;
        }
        assert!(
            failures < MAX_FAILURES,
            "after {failures} failures, scans still wait, or the connector is still ready"
        );
    }
    let mut waits = Vec::new();
    for _ in 0..21 {
        let body = another_scan();
        let outcome = verify_timed(&server, &body).await;
        assert_500_in_time(&outcome, "after the outage was detected");
        asked.push(body);
        waits.push(outcome.1);
    }
    waits.sort();
    assert!(waits[10] < IMMEDIATE, "half of the scans wait longer: {waits:?}");
    for (body, first) in &recorded {
        let (again, elapsed) = verify_timed(&server, &retry(body)).await;
        assert_all_same([first, &again]);
        assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
    }
    assert_eq!(server.readiness().await, "degraded");

    recover(&postgres);
    wait_until("a scan passes", async || server.verify(&scan()).await.status == 200).await;
    wait_until("the connector is ready", async || server.readiness().await == "ready").await;
    asked.extend(recorded.into_iter().map(|(body, _)| body));
    assert_consistent(&server, &asked).await;
}

#[apply(with_postgres)]
async fn scans_fail_fast_and_recover_when_the_server_is_frozen(postgres: Postgres) {
    assert_fails_and_recovers(postgres, Postgres::pause, Postgres::resume).await;
}

#[apply(with_postgres)]
async fn scans_fail_fast_and_recover_when_the_server_is_killed(postgres: Postgres) {
    assert_fails_and_recovers(postgres, Postgres::kill, Postgres::restart).await;
}

/// All connections are closed by the restart, which the connector notices only when it uses them.
#[apply(with_postgres)]
async fn restarted_server_is_used_again(postgres: Postgres) {
    let (server, recorded) = connector(&postgres).await;
    postgres.kill();
    postgres.restart();
    let body = scan();
    wait_until("a scan passes", async || {
        let (answer, elapsed) = verify_timed(&server, &retry(&body)).await;
        assert!(elapsed < TIME_LIMIT, "{elapsed:?}");
        answer.status == 200
    })
    .await;
    let asked: Vec<_> = recorded.into_iter().map(|(body, _)| body).chain([body]).collect();
    assert_consistent(&server, &asked).await;
}

/// No scan waits for the scans before it.
#[apply(with_postgres)]
async fn many_scans_at_a_frozen_server_fail_in_time(postgres: Postgres) {
    let (server, _) = connector(&postgres).await;
    postgres.pause();
    let asked: Vec<_> = (0..128).map(|number| if number % 2 == 0 { scan() } else { another_scan() }).collect();
    let mut under_way = JoinSet::new();
    for body in asked.clone() {
        let server = Arc::clone(&server);
        under_way.spawn(async move { verify_timed(&server, &body).await });
    }
    for outcome in under_way.join_all().await {
        assert_500_in_time(&outcome, "one of many scans");
    }
    postgres.resume();
    wait_until("a scan passes", async || server.verify(&scan()).await.status == 200).await;
    assert_consistent(&server, &asked[..16]).await;
}
