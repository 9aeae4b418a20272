//! What PostgreSQL's `record_decisions` does about codes, asked by hand: batches and waits that no request brings about for certain.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::checks::PATIENCE;
use crate::engine::{on_a_postgres_of_its_own, properties};
use crate::support::{Postgres, Server};

pub(crate) fn trials() -> Vec<Trial> {
    on_a_postgres_of_its_own(
        module_path!(),
        properties![
            a_code_is_used_by_what_is_recorded_as_accepted_and_by_nothing_else,
            batches_take_their_codes_before_their_events,
            the_order_of_codes_is_not_that_of_events,
            what_was_never_committed_has_used_nothing_up,
        ],
    )
}

/// An acceptance of an event at an entry.
fn job(number: usize, event: u8, code: Option<u8>) -> Value {
    let hex = |byte: u8, length: usize| format!("{byte:02x}").repeat(length);
    let mut job = json!({
        "number": number, "event": hex(event, 16), "scan": hex(code.unwrap_or(0), 32), "recorded_at": 1000,
        "kept_since": 500, "entered_since": 500, "visitor_id": "v", "visitor_type": "SHOPPER", "store_id": "S",
        "location": "ENTRY", "at": "2024-02-09T17:53:57Z",
    });
    if let Some(code) = code {
        job["code"] = json!(hex(code, 32));
    }
    job
}

fn call(jobs: &[Value]) -> String {
    let jobs = json!(jobs);
    format!("SELECT number, outcome, coalesce(denial, 'accepted') FROM record_decisions('{jobs}') ORDER BY number")
}

#[derive(Clone)]
struct Place {
    postgres: Arc<Postgres>,
    url: String,
}

impl Place {
    /// A database as a connector has left it.
    async fn new(postgres: Postgres) -> Self {
        let url = postgres.database();
        Server::postgres(&url, &[]).await.stopped().await;
        Self { postgres: Arc::new(postgres), url }
    }

    fn ask(&self, statement: &str) -> Vec<String> {
        self.postgres.query(&self.url, statement).lines().map(str::to_owned).collect()
    }

    fn record(&self, jobs: &[Value]) -> Vec<String> {
        self.ask(&call(jobs))
    }

    /// The same, in the background; returns once so many wait.
    fn waits(&self, jobs: Vec<Value>, waiting: usize) -> JoinHandle<Vec<String>> {
        let place = self.clone();
        let recording = thread::spawn(move || place.record(&jobs));
        let deadline = Instant::now() + PATIENCE;
        let count = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        while self.ask(count) != [waiting.to_string()] {
            assert!(Instant::now() < deadline && !recording.is_finished(), "it does not wait");
            thread::sleep(Duration::from_millis(10)); // a poll towards the deadline above
        }
        recording
    }

    /// Which event has which code, the first byte of each.
    fn used(&self) -> Vec<String> {
        self.ask("SELECT left(encode(digest, 'hex'), 2) || ' ' || left(encode(event_id, 'hex'), 2) FROM used_code ORDER BY 1")
    }
}

async fn a_code_is_used_by_what_is_recorded_as_accepted_and_by_nothing_else(postgres: Postgres) {
    let place = Place::new(postgres).await;
    assert_eq!(place.record(&[job(0, 1, Some(0xa))]), ["0|new|accepted"]);
    assert_eq!(place.record(&[job(0, 1, Some(0xa))]), ["0|replay|accepted"]);
    assert_eq!(place.record(&[job(0, 1, Some(0xb))]), ["0|mismatch|accepted"]);
    assert_eq!(place.record(&[job(0, 2, Some(0xa))]), ["0|new|key_already_used"]);
    assert_eq!(place.record(&[job(0, 2, Some(0xa))]), ["0|replay|key_already_used"]);
    let mut denied = job(0, 3, Some(0xb));
    for (name, value) in
        [("denial", json!("account_flagged")), ("visitor_id", Value::Null), ("visitor_type", Value::Null)]
    {
        denied[name] = value;
    }
    assert_eq!(place.record(&[denied]), ["0|new|account_flagged"]);
    assert_eq!(place.used(), ["0a 01"]);
    let decisions =
        "SELECT left(encode(event_id, 'hex'), 2), place, visitor_id, session_effect FROM decision ORDER BY 1";
    assert_eq!(place.ask(decisions), ["01|0|v|opened", "02|1||", "03|1||"]);
    assert_eq!(place.ask("SELECT count(*) FROM session"), ["1"]);

    // In one batch, too; and from the last release, whose jobs have no codes.
    let both = place.record(&[job(0, 5, Some(0xc)), job(1, 4, Some(0xc)), job(2, 6, None), job(3, 5, Some(0xd))]);
    assert_eq!(both, ["0|new|key_already_used", "1|new|accepted", "2|new|accepted", "3|new|accepted"]);
    assert_eq!(place.used(), ["0a 01", "0c 04", "0d 05"]);

    // A decision may be swept before its code: that does not stand in the way of its own event.
    place.ask("DELETE FROM decision WHERE event_id = decode(repeat('04', 16), 'hex')");
    assert_eq!(place.record(&[job(0, 4, Some(0xc))]), ["0|new|accepted"]);

    // Past its retention, swept or not, it is free: for its own event and for another.
    let later = |mut job: Value| {
        (job["recorded_at"], job["kept_since"]) = (json!(2000), json!(1001));
        job
    };
    assert_eq!(
        place.record(&[later(job(0, 1, Some(0xd))), later(job(1, 7, Some(0xa)))]),
        ["0|new|accepted", "1|new|accepted"]
    );
    assert_eq!(place.used(), ["0a 07", "0c 04", "0d 01"]);
}

/// One batch waits in its middle, so that it would hold its first code while another holds its second.
async fn batches_take_their_codes_before_their_events(postgres: Postgres) {
    let place = Place::new(postgres).await;
    let in_the_middle = place.postgres.begin(&place.url, &call(&[job(0, 3, None)]));
    let one = place.waits(vec![job(0, 1, Some(0xa)), job(1, 3, Some(0xb))], 1);
    let other = place.waits(vec![job(0, 2, Some(0xb)), job(1, 4, Some(0xa))], 2);
    // Whoever has no code of theirs waits for nobody.
    assert_eq!(place.record(&[job(0, 5, Some(0xc)), job(1, 6, None)]), ["0|new|accepted", "1|new|accepted"]);
    drop(in_the_middle);
    assert_eq!(one.join().unwrap(), ["0|new|accepted", "1|new|accepted"]);
    assert_eq!(other.join().unwrap(), ["0|new|key_already_used", "1|new|key_already_used"]);
}

/// Both batches are stopped at the code in the middle, which somebody has: by then each would hold what the other one wants next.
async fn the_order_of_codes_is_not_that_of_events(postgres: Postgres) {
    let place = Place::new(postgres).await;
    let middle = "SELECT pg_advisory_xact_lock(('x' || repeat('05', 8))::BIT(64)::BIGINT)";
    let middle = place.postgres.begin(&place.url, middle);
    let jobs = |codes: [u8; 3], events: [u8; 3]| {
        let pairs = codes.into_iter().zip(events).enumerate();
        pairs.map(|(number, (code, event))| job(number, event, Some(code))).collect()
    };
    let one = place.waits(jobs([1, 5, 9], [1, 2, 3]), 1);
    let other = place.waits(jobs([9, 5, 1], [4, 5, 6]), 2);
    drop(middle);
    let all = |what: &str| [0, 1, 2].map(|number| format!("{number}|new|{what}"));
    assert_eq!(one.join().unwrap(), all("accepted"));
    assert_eq!(other.join().unwrap(), all("key_already_used"));
}

async fn what_was_never_committed_has_used_nothing_up(postgres: Postgres) {
    let place = Place::new(postgres).await;
    let first = place.postgres.begin(&place.url, &call(&[job(0, 1, Some(0xa))]));
    let second = place.waits(vec![job(0, 2, Some(0xa))], 1);
    drop(first);
    assert_eq!(second.join().unwrap(), ["0|new|accepted"]);

    // The key is what decides, also where somebody has taken no lock.
    let by_hand =
        "INSERT INTO used_code VALUES (decode(repeat('0b', 32), 'hex'), decode(repeat('01', 16), 'hex'), 1000)";
    let first = place.postgres.begin(&place.url, by_hand);
    let second = place.waits(vec![job(0, 3, Some(0xb))], 1);
    drop(first);
    assert_eq!(second.join().unwrap(), ["0|new|accepted"]);
    assert_eq!(place.used(), ["0a 02", "0b 03"]);
}
