//! What a sweep lets go of, on every engine: nobody can see it happen from outside, since nothing depends on when it does.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::*;
use crate::digest::HashKey;
use crate::domain::decision::Grant;
use crate::domain::identity_key::IdentityKey;
use crate::domain::ids::VisitorId;
use crate::domain::scan::Location;
use crate::domain::visitor::{Visitor, VisitorType};
use crate::storage::{Database, Location as Place};

const LIMITS: Limits =
    Limits { retention: TimeDelta::days(7), capacity: 10_000, cache: 100, session_max_age: TimeDelta::hours(24) };

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::hours(hours)).expect("in range")
}

/// An acceptance of an event of its own.
pub(crate) fn accepted(number: u32, location: Location) -> NewRecord {
    let id = EventId::parse(&format!("00000000-0000-0000-0000-{number:012}")).expect("a UUID");
    let store_id = StoreId::parse("S").expect("an id");
    let key = IdentityKey::from_base64("YQ==").expect("Base64");
    let visitor = Visitor { id: VisitorId::parse("v").expect("an id"), kind: VisitorType::Shopper };
    NewRecord {
        event: AuthEvent { id, timestamp: DateTime::UNIX_EPOCH, location },
        fingerprint: HashKey::new(&[0; 32]).fingerprint(&key, &store_id, location),
        store_id,
        decision: Decision::Accepted(Grant { visitor, device: None, payment_source: None }),
    }
}

async fn a_sweep_lets_go_of_what_was_kept_long_enough(ledger: &Ledger) {
    // 1200, so that it takes more than one batch.
    for number in 0..1200 {
        ledger.record(accepted(number, Location::Entry), at(0)).await.expect("recorded");
    }
    ledger.record(accepted(1200, Location::Exit), at(1)).await.expect("recorded");
    ledger.record(accepted(1201, Location::Entry), at(100)).await.expect("recorded");
    let sessions = async |hours| ledger.sessions(None, 10_000, at(hours)).await.expect("listed").sessions.len();
    let week = 7 * 24;

    ledger.sweep(at(week)).await.expect("swept");
    assert_eq!((ledger.records(), sessions(week).await), (1202, 1201), "kept for exactly that long");
    ledger.sweep(at(week + 2)).await.expect("swept");
    assert_eq!(ledger.records(), 1, "all but the last have expired");
    assert_eq!(
        sessions(week + 2).await,
        1200,
        "the one that was closed has gone; the others ended a day after they began"
    );
    ledger.sweep(at(week + 25)).await.expect("swept");
    assert_eq!((ledger.records(), sessions(week + 25).await), (1, 1), "and have gone a day later");
}

#[tokio::test]
async fn a_sweep_in_memory() {
    a_sweep_lets_go_of_what_was_kept_long_enough(&Ledger::Memory(MemoryLedger::new(LIMITS))).await;
}

async fn open(folder: &tempfile::TempDir) -> Database {
    Database::open(&Place::Sqlite(folder.path().join("c.db")), None).await.expect("opened")
}

#[tokio::test]
async fn a_sweep_in_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = SqlLedger::open(open(&folder).await, LIMITS).await.expect("opened");
    a_sweep_lets_go_of_what_was_kept_long_enough(&Ledger::Sql(ledger)).await;
}

/// Somebody has written into the database what no connector writes: the event concerned cannot be answered, the others can.
#[tokio::test]
async fn a_row_that_fails_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder).await;
    let broken = accepted(7, Location::Entry).event.id;
    let intruder = database.transaction(move |connection| {
        let statement =
            "INSERT INTO decision (event_id, fingerprint, recorded_at, denial) VALUES ($1, zeroblob(32), 0, 'nonsense')";
        Box::pin(async move {
            Ok(sqlx::query(statement).bind(broken.as_bytes().as_slice()).execute(connection).await?)
        })
    });
    intruder.await.expect("inserted");
    let ledger = Arc::new(Ledger::Sql(SqlLedger::open(database, LIMITS).await.expect("opened")));
    let mut recording = JoinSet::new();
    for number in 0..20 {
        let ledger = Arc::clone(&ledger);
        recording.spawn(async move { (number, ledger.record(accepted(number, Location::Entry), at(0)).await) });
    }
    for (number, recorded) in recording.join_all().await {
        match number {
            7 => assert!(recorded.is_err_and(|error| error.to_string().contains("denial")), "the broken one"),
            _ => assert!(matches!(recorded, Ok(Recorded::New(_))), "{number}"),
        }
    }
    assert_eq!(ledger.sessions(None, 100, at(0)).await.expect("listed").sessions.len(), 19, "nothing is half recorded");
}
