//! A database that is slow or gone: whoever asks is told so in time, soon at once, and it is over by itself when the database is
//! back. What was decided stands meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::{on_a_postgres_of_its_own, properties};
use crate::support::{Answer, Postgres, Server, scan, scan_with_key};

pub(crate) fn trials() -> Vec<Trial> {
    on_a_postgres_of_its_own(
        module_path!(),
        properties![
            a_server_that_stands_still,
            a_server_that_is_killed,
            a_server_that_is_restarted,
            a_crowd_at_a_server_that_stands_still,
        ],
    )
}

/// The contract's 1.5 s, and a wide margin for a busy machine. A scan that waits for the database waits until the database is back, which
/// takes longer.
pub(crate) const IN_TIME: Duration = Duration::from_secs(4);
/// How soon an answer comes that waits for nobody.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How many failures of different keys it may take until nobody waits any longer.
const FEW: usize = 16;
/// How long it may take after the database's return until scans pass: 5 s, and a wide margin for a busy machine.
pub(crate) const RECOVERY: Duration = Duration::from_secs(30);

pub(crate) async fn timed(server: &Server, body: &Value) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = server.verify(body).await;
    (answer, began.elapsed())
}

/// A scan of its own event and of a key of its own, which is not known.
fn another_scan() -> Value {
    scan_with_key(new_id().as_bytes())
}

#[track_caller]
pub(crate) fn assert_our_fault_in_time((answer, elapsed): &(Answer, Duration), what: &str) {
    assert_refused(answer, 500, OUR_FAULT, what);
    assert!(*elapsed < IN_TIME, "{what}: after {elapsed:?}");
}

/// Asks until what comes is as wanted.
pub(crate) async fn until(deadline: Duration, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < deadline, "{what}: not after {deadline:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline
    }
}

/// What both ports say of the connector's readiness, which is to be 200 throughout.
pub(crate) async fn readiness(server: &Server) -> String {
    let mut said = Vec::new();
    for port in [&server.api, &server.management] {
        let answer = server.client.get(format!("{port}/readyz")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        said.push(answer.json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned());
    }
    if said[0] == said[1] { said.swap_remove(0) } else { "changing".to_owned() }
}

/// Everything can be asked again: an event has one answer, and one session if it was accepted.
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

/// A connector that has answered, and what: a database that goes now takes none of it away.
async fn connector(postgres: &Postgres) -> (Arc<Server>, Vec<(Value, Answer)>) {
    let server = Arc::new(Server::postgres(&postgres.database(), &[]).await);
    let mut recorded = Vec::new();
    for key in ["valid_shopper_key", "device_shopper_key", "unknown_key", "flagged_shopper_key"] {
        let body = scan_with_key(key.as_bytes());
        let answer = server.verify(&body).await;
        recorded.push((body, answer));
    }
    assert_eq!(readiness(&server).await, "ready");
    (server, recorded)
}

/// From the moment that the database goes until all is well again.
async fn goes_and_comes_back(postgres: Postgres, go: fn(&Postgres), come_back: fn(&Postgres)) {
    let (server, recorded) = connector(&postgres).await;
    // Some are on their way when it goes.
    let mut asked: Vec<_> = (0..8).map(|_| scan()).collect();
    let mut under_way = JoinSet::new();
    for body in asked.clone() {
        let server = Arc::clone(&server);
        under_way.spawn(async move { timed(&server, &body).await });
    }
    go(&postgres);
    for (answer, elapsed) in under_way.join_all().await {
        assert!(elapsed < IN_TIME, "{elapsed:?}");
        // Whoever waited for a connection while others were answered a moment before has found it busy.
        match answer.status {
            429 => assert_too_many(&answer, "while it goes"),
            status => assert!(status == 200 || answer.message().as_deref() == Some(OUR_FAULT), "{status}"),
        }
    }

    let mut failures = 0;
    loop {
        let body = another_scan();
        let outcome = timed(&server, &body).await;
        assert_our_fault_in_time(&outcome, "while it is away");
        asked.push(body);
        failures += 1;
        if outcome.1 < AT_ONCE && readiness(&server).await == "degraded" {
            break;
        }
        assert!(failures < FEW, "after {failures} failures, they still wait, or it is not known");
    }
    let mut waits = Vec::new();
    for _ in 0..21 {
        let body = another_scan();
        let outcome = timed(&server, &body).await;
        assert_our_fault_in_time(&outcome, "while it is known to be away");
        asked.push(body);
        waits.push(outcome.1);
    }
    waits.sort();
    assert!(waits[10] < AT_ONCE, "half of them wait longer: {waits:?}");
    for (body, first) in &recorded {
        let (again, elapsed) = timed(&server, &retry(body)).await;
        assert_all_same([first, &again]);
        assert!(elapsed < IN_TIME, "{elapsed:?}");
    }
    assert_eq!(readiness(&server).await, "degraded");

    come_back(&postgres);
    until(RECOVERY, "a scan passes", async || server.verify(&scan()).await.status == 200).await;
    until(RECOVERY, "it is ready", async || readiness(&server).await == "ready").await;
    asked.extend(recorded.into_iter().map(|(body, _)| body));
    assert_consistent(&server, &asked).await;
}

async fn a_server_that_stands_still(postgres: Postgres) {
    goes_and_comes_back(postgres, Postgres::pause, Postgres::resume).await;
}

async fn a_server_that_is_killed(postgres: Postgres) {
    goes_and_comes_back(postgres, Postgres::kill, Postgres::restart).await;
}

/// The connections are all gone, and nobody was told.
async fn a_server_that_is_restarted(postgres: Postgres) {
    let (server, recorded) = connector(&postgres).await;
    postgres.kill();
    postgres.restart();
    let body = scan();
    until(RECOVERY, "a scan passes", async || {
        let (answer, elapsed) = timed(&server, &retry(&body)).await;
        assert!(elapsed < IN_TIME, "{elapsed:?}");
        answer.status == 200
    })
    .await;
    let asked: Vec<_> = recorded.into_iter().map(|(body, _)| body).chain([body]).collect();
    assert_consistent(&server, &asked).await;
}

/// Nobody waits for those before them.
async fn a_crowd_at_a_server_that_stands_still(postgres: Postgres) {
    let (server, _) = connector(&postgres).await;
    postgres.pause();
    let asked: Vec<_> = (0..128).map(|number| if number % 2 == 0 { scan() } else { another_scan() }).collect();
    let mut under_way = JoinSet::new();
    for body in asked.clone() {
        let server = Arc::clone(&server);
        under_way.spawn(async move { timed(&server, &body).await });
    }
    for outcome in under_way.join_all().await {
        assert_our_fault_in_time(&outcome, "one of a crowd");
    }
    postgres.resume();
    until(RECOVERY, "a scan passes", async || server.verify(&scan()).await.status == 200).await;
    assert_consistent(&server, &asked[..16]).await;
}
