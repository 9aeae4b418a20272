//! Tests of behaviour that no request shows: sweeps in memory and in SQLite, and batches and failures of the writer.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;
use crate::digest::HashKey;
use crate::domain::decision::{Denial, Grant};
use crate::domain::identity_key::IdentityKey;
use crate::domain::ids::{StoreId, VisitorId};
use crate::domain::scan::{AuthEvent, Location};
use crate::domain::visitor::{Visitor, VisitorType};
use crate::storage::{Database, Location as DatabaseLocation};

pub(crate) const LIMITS: Limits =
    Limits { retention: TimeDelta::days(7), capacity: 10_000, cache: 100, session_max_age: TimeDelta::hours(24) };

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::hours(hours)).expect("in range")
}

/// The same decision, which uses the code with this number.
pub(crate) fn with_code(entry: NewRecord, code: u8) -> NewRecord {
    NewRecord { code: Some(Digest::from_bytes([code; 32])), ..entry }
}

/// A deadline that no test reaches.
pub(crate) fn far_deadline() -> Instant {
    Instant::now().checked_add(std::time::Duration::from_secs(3600)).expect("in range")
}

/// An acceptance of an event with this number.
pub(crate) fn accepted(number: u32, location: Location) -> NewRecord {
    let id = EventId::parse(&format!("00000000-0000-0000-0000-{number:012}")).expect("a UUID");
    let store_id = StoreId::parse("S").expect("an id");
    let key = IdentityKey::from_base64("YQ==").expect("Base64");
    let visitor = Visitor { id: VisitorId::parse("v").expect("an id"), kind: VisitorType::Shopper };
    NewRecord {
        fingerprint: HashKey::new(&[0; 32]).fingerprint(&key, &store_id, location),
        scan: ScanDetails {
            event: AuthEvent { id, timestamp: DateTime::UNIX_EPOCH, location },
            store_id,
            channel: None,
            caller: None,
        },
        decision: Decision::Accepted(Grant { visitor, device: None, payment_source: None }),
        code: None,
    }
}

/// `count` is more than one batch of a sweep.
async fn sweep_removes_expired_records(ledger: &Ledger, count: u32) {
    for number in 0..count {
        ledger
            .record(accepted(number, Location::Entry), at(0), far_deadline())
            .await
            .expect("the decision is recorded");
    }
    let [exit, last] = [accepted(count, Location::Exit), accepted(count.saturating_add(1), Location::Entry)];
    ledger.record(exit, at(1), far_deadline()).await.expect("the decision is recorded");
    ledger.record(last, at(100), far_deadline()).await.expect("the decision is recorded");
    let count = usize::try_from(count).expect("in range");
    let sessions = async |hours| ledger.sessions(None, 10_000, at(hours)).await.expect("the list is read").rows.len();
    let week = 7 * 24;

    ledger.sweep(at(week)).await.expect("the sweep succeeds");
    let all = (count.saturating_add(2), count.saturating_add(1));
    assert_eq!((ledger.records(), sessions(week).await), all, "kept until the end of the retention");
    ledger.sweep(at(week + 1)).await.expect("the sweep succeeds");
    assert_eq!((ledger.records(), sessions(week + 1).await), (2, 1), "a session is removed with its entry");
    ledger.sweep(at(week + 2)).await.expect("the sweep succeeds");
    assert_eq!((ledger.records(), sessions(week + 2).await), (1, 1), "all but the last have expired");
}

/// More records than one batch of a sweep.
#[tokio::test]
async fn records_from_a_fast_clock_do_not_block_sweeps() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Ledger::Sql(SqlLedger::open(open(&folder).await, LIMITS).await.expect("the ledger opens"));
    let week = 7 * 24;
    for number in 0..300 {
        // The clock was ahead by three days for most of the first records.
        let hours = if number < 250 && number != 7 { week + 3 * 24 } else { 0 };
        let entry = accepted(number, Location::Entry);
        ledger.record(entry, at(hours), far_deadline()).await.expect("the decision is recorded");
    }
    ledger.sweep(at(week + 1)).await.expect("the sweep succeeds");
    assert_eq!(ledger.records(), 249);
    ledger.sweep(at(2 * week + 3 * 24 + 1)).await.expect("the sweep succeeds");
    assert_eq!(ledger.records(), 0);
}

#[tokio::test]
async fn sweep_in_memory_removes_expired_records() {
    sweep_removes_expired_records(&Ledger::Memory(MemoryLedger::new(LIMITS)), 1200).await;
}

async fn open(folder: &tempfile::TempDir) -> Database {
    Database::open(&DatabaseLocation::Sqlite(folder.path().join("c.db")), None).await.expect("the database opens")
}

#[tokio::test]
async fn sweep_in_sqlite_removes_expired_records() {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = SqlLedger::open(open(&folder).await, LIMITS).await.expect("the ledger opens");
    sweep_removes_expired_records(&Ledger::Sql(ledger), 120).await;
}

/// The schema itself guarantees it.
#[tokio::test]
async fn sqlite_refuses_a_second_acceptance_of_an_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder).await;
    let insert = |slot: i64| {
        database.transaction(move |connection| {
            let statement =
                "INSERT INTO decision (event_id, slot, fingerprint, recorded_at, event_time, location, store_id, denial,
                     visitor_id, visitor_type)
                 VALUES (zeroblob(16), $1, zeroblob(32), 0, '', 'EXIT', 'S', $2, 'v', 'SHOPPER')";
            let denial = (slot > 0).then_some("invalid_key");
            Box::pin(async move { Ok(sqlx::query(statement).bind(slot).bind(denial).execute(connection).await?) })
        })
    };
    for slot in [1, 2, 8, 0] {
        insert(slot).await.expect("a slot that is free");
    }
    for slot in [0, 1, 9] {
        insert(slot).await.expect_err("a slot that is taken, or none");
    }
}

/// The database has a row that no connector writes. Only scans of that row's event fail.
#[tokio::test]
async fn invalid_row_fails_only_its_own_event() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder).await;
    let broken = accepted(7, Location::Entry).scan.event.id;
    let insert = database.transaction(move |connection| {
        let statement =
            "INSERT INTO decision (event_id, slot, fingerprint, recorded_at, event_time, location, store_id, denial)
             VALUES ($1, 1, zeroblob(32), 0, '', 'ENTRY', 'S', 'nonsense')";
        Box::pin(
            async move { Ok(sqlx::query(statement).bind(broken.as_bytes().as_slice()).execute(connection).await?) },
        )
    });
    insert.await.expect("the row is inserted");
    let ledger = Arc::new(Ledger::Sql(SqlLedger::open(database, LIMITS).await.expect("the ledger opens")));
    let mut recording = JoinSet::new();
    for number in 0..20 {
        let ledger = Arc::clone(&ledger);
        recording.spawn(async move {
            (number, ledger.record(accepted(number, Location::Entry), at(0), far_deadline()).await)
        });
    }
    for (number, recorded) in recording.join_all().await {
        match number {
            7 => assert!(recorded.is_err_and(|error| error.to_string().contains("denial")), "the broken one"),
            _ => assert!(matches!(recorded, Ok(Recorded::New(_))), "{number}"),
        }
    }
    assert_eq!(
        ledger.sessions(None, 100, at(0)).await.expect("the list is read").rows.len(),
        19,
        "nothing is half recorded"
    );
}

/// A decision waits for at most the current batch and its own. Further decisions are refused immediately and not
/// recorded.
#[tokio::test]
async fn full_writer_queue_refuses_decisions() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, blocked) = with_blocked_writer(&folder).await;
    let mut recording = JoinSet::new();
    for number in 0..700 {
        let ledger = Arc::clone(&ledger);
        recording.spawn(async move { ledger.record(accepted(number, Location::Entry), at(0), far_deadline()).await });
    }
    let (mut refused, mut recorded) = (0, 0);
    while refused < 700 - 2 * 256 {
        let first = recording.join_next().await.expect("a task is left").expect("no panic").expect("no error");
        assert_eq!(first, Recorded::Busy, "while nothing can be written");
        refused += 1;
    }
    drop(blocked);
    for outcome in recording.join_all().await {
        match outcome.expect("no error") {
            Recorded::Busy => refused += 1,
            Recorded::New(_) => recorded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((refused + recorded, ledger.records()), (700, recorded));
}

/// A ledger whose writer cannot write until the returned sender is dropped.
async fn with_blocked_writer(folder: &tempfile::TempDir) -> (Arc<Ledger>, oneshot::Sender<()>) {
    let database = open(folder).await;
    let ledger = SqlLedger::open(database.clone(), LIMITS).await.expect("the ledger opens");
    let ((hold, held), (begun, has_begun)) = (oneshot::channel::<()>(), oneshot::channel());
    tokio::spawn(async move {
        let wait = database.transaction(|_| {
            Box::pin(async move {
                begun.send(()).expect("the test waits");
                drop(held.await);
                Ok(())
            })
        });
        wait.await
    });
    has_begun.await.expect("it begins");
    (Arc::new(Ledger::Sql(ledger)), hold)
}

/// Waits until the writer has taken the decision that was just sent. Decisions that are sent while it waits to write
/// become one batch.
async fn until_taken(ledger: &Ledger) {
    let Ledger::Sql(ledger) = ledger else { panic!("a database") };
    tokio::task::yield_now().await; // the decision is sent
    while ledger.waiting() > 0 {
        tokio::task::yield_now().await;
    }
}

/// The writer takes pending decisions as one batch, in the order in which they arrived.
#[tokio::test]
async fn exit_closes_a_session_that_the_same_batch_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, hold) = with_blocked_writer(&folder).await;
    // The writer takes the first decision and waits with it. The others become one batch.
    let record = |number, location| {
        let ledger = Arc::clone(&ledger);
        let recording = async move {
            ledger.record(accepted(number, location), at(0), far_deadline()).await.expect("the decision is recorded")
        };
        tokio::spawn(recording)
    };
    let mut recording = Vec::new();
    recording.push(record(0, Location::Exit));
    until_taken(&ledger).await;
    for (number, location) in [(1, Location::Entry), (2, Location::Exit)] {
        recording.push(record(number, location));
        tokio::task::yield_now().await;
    }
    drop(hold);
    let mut effects = Vec::new();
    for recorded in recording {
        let Recorded::New(record) = recorded.await.expect("no panic") else { panic!("it is new") };
        effects.push(record.session);
    }
    let id = RecordId(2);
    assert_eq!(effects, [SessionEffect::NoneOpen, SessionEffect::Opened(id), SessionEffect::Closed(id)]);
}

/// A code that a decision of a batch has used is used for the later decisions of the batch, except for those of its own
/// event.
#[tokio::test]
async fn code_opens_one_event_of_a_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, hold) = with_blocked_writer(&folder).await;
    let mut recording = Vec::new();
    for (number, code) in [(0, 1), (1, 2), (2, 2), (1, 2), (3, 1), (4, 3)] {
        let (ledger, entry) = (Arc::clone(&ledger), with_code(accepted(number, Location::Entry), code));
        recording.push(tokio::spawn(async move {
            ledger.record(entry, at(0), far_deadline()).await.expect("the decision is recorded")
        }));
        tokio::task::yield_now().await;
    }
    drop(hold);
    let mut decided = Vec::new();
    for recorded in recording {
        let (Recorded::New(record) | Recorded::Replay(record)) = recorded.await.expect("no panic") else {
            panic!("it is decided")
        };
        decided.push(match record.decision {
            Decision::Accepted(_) => None,
            Decision::Denied { reason, .. } => Some(reason),
        });
    }
    let used = Some(Denial::KeyAlreadyUsed);
    assert_eq!(decided, [None, None, used, None, used, None]);
    assert_eq!(ledger.sessions(None, 10, at(0)).await.expect("the list is read").rows.len(), 3);
}

#[tokio::test]
async fn decision_past_its_deadline_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ledger, hold) = with_blocked_writer(&folder).await;
    let (first, late) = (Arc::clone(&ledger), Arc::clone(&ledger));
    let first = tokio::spawn(async move { first.record(accepted(0, Location::Entry), at(0), far_deadline()).await });
    until_taken(&ledger).await;
    let deadline = Instant::now().checked_add(std::time::Duration::from_millis(1)).expect("in range");
    let late = tokio::spawn(async move { late.record(accepted(1, Location::Entry), at(0), deadline).await });
    tokio::time::sleep_until(deadline).await;
    drop(hold);
    assert!(matches!(first.await.expect("no panic"), Ok(Recorded::New(_))));
    assert!(late.await.expect("no panic").is_err());
    assert_eq!(ledger.records(), 1);
}

/// When the disk is full at a commit, SQLite rolls the transaction back by itself, and sqlx does not notice.
#[tokio::test]
async fn writing_continues_after_the_database_ended_a_transaction() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder).await;
    let ended = database.transaction(|connection| {
        Box::pin(async move {
            sqlx::query("ROLLBACK").execute(&mut *connection).await?;
            Err::<(), _>(crate::storage::corrupt("a disk that is full"))
        })
    });
    assert!(
        ended.await.is_err_and(|error| error.to_string().contains("a disk that is full")),
        "the error names the cause"
    );
    let ledger = Ledger::Sql(SqlLedger::open(database, LIMITS).await.expect("the ledger opens"));
    let recorded = ledger.record(accepted(0, Location::Entry), at(0), far_deadline()).await;
    assert!(matches!(recorded, Ok(Recorded::New(_))), "{recorded:?}");
}

/// The next release may add columns, and this release must work with them.
#[tokio::test]
async fn columns_of_a_later_release_are_ignored() {
    let folder = tempfile::tempdir().expect("a folder");
    let database = open(&folder).await;
    for table in ["property", "decision"] {
        let add = format!("ALTER TABLE {table} ADD COLUMN later TEXT");
        let added = database.transaction(move |connection| {
            Box::pin(async move { Ok(sqlx::query(sqlx::AssertSqlSafe(add)).execute(connection).await?) })
        });
        added.await.expect("the rows are added");
    }
    let ledger = Ledger::Sql(SqlLedger::open(database, LIMITS).await.expect("the ledger opens"));
    for (number, location) in [(0, Location::Entry), (0, Location::Entry), (1, Location::Exit)] {
        let entry = with_code(accepted(number, location), 0);
        ledger.record(entry, at(0), far_deadline()).await.expect("the decision is recorded");
    }
    assert_eq!(ledger.sessions(None, 10, at(0)).await.expect("the list is read").rows.len(), 1);
    assert_eq!(ledger.decisions(None, 10).await.expect("the list is read").rows.len(), 2);
    ledger.sweep(at(1000)).await.expect("the sweep succeeds");
    assert_eq!(ledger.records(), 0);
}
