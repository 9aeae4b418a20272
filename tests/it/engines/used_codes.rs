//! PostgreSQL's `record_decisions` and codes, called directly: batches and waits that requests cannot cause reliably.

use crate::trials::{apply, with_database};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checks::PATIENCE;
use crate::engine::Database;
use crate::support::Server;

/// An acceptance of an event at an entry gate.
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

/// A database with the schema, which no connector uses.
#[derive(Clone)]
struct Schema(Arc<Database>);

impl Schema {
    async fn new(database: Database) -> Self {
        Server::demo(&database.settings()).await.stopped().await;
        Self(Arc::new(database))
    }

    fn query(&self, statement: &str) -> Vec<String> {
        self.0.query(statement).lines().map(str::to_owned).collect()
    }

    fn record(&self, jobs: &[Value]) -> Vec<String> {
        self.query(&call(jobs))
    }

    /// Records jobs in the background. Returns when `waiting` connections wait for a lock.
    fn record_in_background(&self, jobs: Vec<Value>, waiting: usize) -> JoinHandle<Vec<String>> {
        let database = self.clone();
        let recording = thread::spawn(move || database.record(&jobs));
        let deadline = Instant::now() + PATIENCE;
        while self.0.waiting() != waiting {
            assert!(Instant::now() < deadline && !recording.is_finished(), "the batch does not wait for a lock");
            thread::sleep(Duration::from_millis(10)); // poll until the deadline above
        }
        recording
    }

    /// The used codes and their events, by the first byte of each.
    fn used_codes(&self) -> Vec<String> {
        self.query("SELECT left(encode(digest, 'hex'), 2) || ' ' || left(encode(event_id, 'hex'), 2) FROM used_code ORDER BY 1")
    }
}

#[apply(with_database)]
async fn only_recorded_acceptances_use_codes(database: Database) {
    let database = Schema::new(database).await;
    assert_eq!(database.record(&[job(0, 1, Some(0xa))]), ["0|new|accepted"]);
    assert_eq!(database.record(&[job(0, 1, Some(0xa))]), ["0|replay|accepted"]);
    assert_eq!(database.record(&[job(0, 1, Some(0xb))]), ["0|mismatch|accepted"]);
    assert_eq!(database.record(&[job(0, 2, Some(0xa))]), ["0|new|key_already_used"]);
    assert_eq!(database.record(&[job(0, 2, Some(0xa))]), ["0|replay|key_already_used"]);
    let mut denied = job(0, 3, Some(0xb));
    for (name, value) in
        [("denial", json!("account_flagged")), ("visitor_id", Value::Null), ("visitor_type", Value::Null)]
    {
        denied[name] = value;
    }
    assert_eq!(database.record(&[denied]), ["0|new|account_flagged"]);
    assert_eq!(database.used_codes(), ["0a 01"]);
    let decisions =
        "SELECT left(encode(event_id, 'hex'), 2), place, visitor_id, session_effect FROM decision ORDER BY 1";
    assert_eq!(database.query(decisions), ["01|0|v|opened", "02|1||", "03|1||"]);
    assert_eq!(database.query("SELECT count(*) FROM session"), ["1"]);

    // One batch has the same code twice, and a job of the previous release, which has no code.
    let both = database.record(&[job(0, 5, Some(0xc)), job(1, 4, Some(0xc)), job(2, 6, None), job(3, 5, Some(0xd))]);
    assert_eq!(both, ["0|new|key_already_used", "1|new|accepted", "2|new|accepted", "3|new|accepted"]);
    assert_eq!(database.used_codes(), ["0a 01", "0c 04", "0d 05"]);

    // A decision may be swept before its code. The code is then still free for its own event.
    database.query("DELETE FROM decision WHERE event_id = decode(repeat('04', 16), 'hex')");
    assert_eq!(database.record(&[job(0, 4, Some(0xc))]), ["0|new|accepted"]);

    // An expired code is free for its own event and for others, even before a sweep.
    let later = |mut job: Value| {
        (job["recorded_at"], job["kept_since"]) = (json!(2000), json!(1001));
        job
    };
    assert_eq!(
        database.record(&[later(job(0, 1, Some(0xd))), later(job(1, 7, Some(0xa)))]),
        ["0|new|accepted", "1|new|accepted"]
    );
    assert_eq!(database.used_codes(), ["0a 07", "0c 04", "0d 01"]);
}

/// One batch is blocked between its two codes. If it locked them one by one, another batch could hold the second.
#[apply(with_database)]
async fn batches_lock_their_codes_before_their_events(database: Database) {
    let database = Schema::new(database).await;
    let blocker = database.0.begin(&call(&[job(0, 3, None)]));
    let first_batch = database.record_in_background(vec![job(0, 1, Some(0xa)), job(1, 3, Some(0xb))], 1);
    let second_batch = database.record_in_background(vec![job(0, 2, Some(0xb)), job(1, 4, Some(0xa))], 2);
    // A batch with other codes does not wait.
    assert_eq!(database.record(&[job(0, 5, Some(0xc)), job(1, 6, None)]), ["0|new|accepted", "1|new|accepted"]);
    drop(blocker);
    assert_eq!(first_batch.join().unwrap(), ["0|new|accepted", "1|new|accepted"]);
    assert_eq!(second_batch.join().unwrap(), ["0|new|key_already_used", "1|new|key_already_used"]);
}

/// Both batches wait for the middle code, which another transaction holds. If codes were locked in the order of events,
/// each batch would by then hold a code that the other needs next.
#[apply(with_database)]
async fn codes_are_locked_in_their_own_order(database: Database) {
    let database = Schema::new(database).await;
    let middle = "SELECT pg_advisory_xact_lock(('x' || repeat('05', 8))::BIT(64)::BIGINT)";
    let middle = database.0.begin(middle);
    let jobs = |codes: [u8; 3], events: [u8; 3]| {
        let pairs = codes.into_iter().zip(events).enumerate();
        pairs.map(|(number, (code, event))| job(number, event, Some(code))).collect()
    };
    let first_batch = database.record_in_background(jobs([1, 5, 9], [1, 2, 3]), 1);
    let second_batch = database.record_in_background(jobs([9, 5, 1], [4, 5, 6]), 2);
    drop(middle);
    let all = |what: &str| [0, 1, 2].map(|number| format!("{number}|new|{what}"));
    assert_eq!(first_batch.join().unwrap(), all("accepted"));
    assert_eq!(second_batch.join().unwrap(), all("key_already_used"));
}

#[apply(with_database)]
async fn uncommitted_transaction_uses_no_code(database: Database) {
    let database = Schema::new(database).await;
    let first = database.0.begin(&call(&[job(0, 1, Some(0xa))]));
    let second = database.record_in_background(vec![job(0, 2, Some(0xa))], 1);
    drop(first);
    assert_eq!(second.join().unwrap(), ["0|new|accepted"]);

    // The primary key decides, even if a transaction has not taken the lock.
    let by_hand =
        "INSERT INTO used_code VALUES (decode(repeat('0b', 32), 'hex'), decode(repeat('01', 16), 'hex'), 1000)";
    let first = database.0.begin(by_hand);
    let second = database.record_in_background(vec![job(0, 3, Some(0xb))], 1);
    drop(first);
    assert_eq!(second.join().unwrap(), ["0|new|accepted"]);
    assert_eq!(database.used_codes(), ["0a 02", "0b 03"]);
}
