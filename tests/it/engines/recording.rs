//! What recording a decision does, given what is recorded already: the same on every storage engine.

use crate::trials::{POSTGRES, SQLITE, apply, on, on_every_engine, with_database};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use identity_connector::testing::digest::{Digest, Fingerprint, HashKey};
use identity_connector::testing::domain::decision::{Decision, Denial, Grant};
use identity_connector::testing::domain::ids::{EventId, StoreId, VisitorId};
use identity_connector::testing::domain::scan::{AuthEvent, Location, ScanDetails};
use identity_connector::testing::domain::visitor::{Visitor, VisitorType};
use identity_connector::testing::ledger::{
    Ledger, Limits, MemoryLedger, NewRecord, Recorded, SessionEffect, SqlLedger,
};
use identity_connector::testing::storage::{Database, Location as DatabaseLocation};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio::time::Instant;

use crate::checks::wait_until;
use crate::engine::{self, Engine};
use crate::support::Server;

const LIMITS: Limits =
    Limits { retention: TimeDelta::hours(24), capacity: 10_000, cache: 10_000, session_max_age: TimeDelta::hours(12) };

/// A decision to be recorded. Numbers stand for ids.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// When it is recorded.
    hour: i64,
    event: u8,
    /// The key of the scan. Other keys have other fingerprints.
    key: u8,
    visitor: u8,
    location: Location,
    is_accepted: bool,
    /// The single-use code, if there is one.
    code: Option<u8>,
}

/// An accepted entry of visitor 1 at hour 0.
const fn entry(event: u8, key: u8) -> Step {
    Step { hour: 0, event, key, visitor: 1, location: Location::Entry, is_accepted: true, code: None }
}

const fn exit(event: u8, key: u8) -> Step {
    Step { location: Location::Exit, ..entry(event, key) }
}

impl Step {
    const fn refused(self) -> Self {
        Self { is_accepted: false, ..self }
    }

    const fn at(self, hour: i64) -> Self {
        Self { hour, ..self }
    }

    const fn of(self, visitor: u8) -> Self {
        Self { visitor, ..self }
    }

    const fn with_code(self, code: u8) -> Self {
        Self { code: Some(code), ..self }
    }

    fn time(self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(self.hour)
    }

    fn record(self) -> NewRecord {
        let visitor =
            Visitor { id: VisitorId::parse(&format!("v{}", self.visitor)).unwrap(), kind: VisitorType::Shopper };
        NewRecord {
            scan: ScanDetails {
                event: AuthEvent {
                    id: EventId::from_bytes([self.event; 16]),
                    timestamp: DateTime::UNIX_EPOCH,
                    location: self.location,
                },
                store_id: StoreId::parse("S").unwrap(),
                channel: None,
                caller: None,
            },
            fingerprint: Fingerprint::from_bytes([self.key; 32]),
            decision: match self.is_accepted {
                true => Decision::Accepted(Grant { visitor, device: None, payment_source: None }),
                false => Decision::refuse_unknown(Denial::KeyNotFound),
            },
            code: self.code.map(|code| Digest::from_bytes([code; 32])),
        }
    }
}

/// What recording a step has done.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Opened,
    /// Closed the session of the step with this index.
    Closed(usize),
    NoneOpen,
    Refused,
    CodeUsed,
    /// Nothing: the record of the step with this index is the answer.
    Replay(usize),
    Mismatch,
}

/// An empty ledger on its own storage.
struct Storage {
    ledger: Ledger,
    /// Of a SQLite file.
    #[expect(dead_code, reason = "kept until the end of the test")]
    folder: Option<TempDir>,
    /// On PostgreSQL.
    database: Option<engine::Database>,
}

impl Storage {
    async fn new(engine: Engine) -> Self {
        match engine {
            Engine::Memory => Self { ledger: Ledger::Memory(MemoryLedger::new(LIMITS)), folder: None, database: None },
            Engine::Sqlite => {
                let folder = TempDir::new().unwrap();
                let location = DatabaseLocation::Sqlite(folder.path().join("c.db"));
                let opened = Database::open(&location, None).await.unwrap();
                let ledger = Ledger::Sql(SqlLedger::open(opened, LIMITS).await.unwrap());
                Self { ledger, folder: Some(folder), database: None }
            }
            Engine::Postgres => Self::postgres(engine::Database::new()).await,
        }
    }

    async fn postgres(database: engine::Database) -> Self {
        let location = DatabaseLocation::Postgres { url: database.url().into(), connections: 4 };
        let opened = Database::open(&location, Some(HashKey::new(&[0; 32]))).await.unwrap();
        Self {
            ledger: Ledger::Sql(SqlLedger::open(opened, LIMITS).await.unwrap()),
            folder: None,
            database: Some(database),
        }
    }

    fn database(&self) -> &engine::Database {
        self.database.as_ref().expect("PostgreSQL")
    }

    /// Records the steps one after another.
    async fn record(&self, steps: &[Step]) -> Vec<Done> {
        let (mut opened, mut recorded, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for (index, step) in steps.iter().enumerate() {
            let deadline = Instant::now() + Duration::from_secs(60);
            let done = match self.ledger.record(step.record(), step.time(), deadline).await.unwrap() {
                Recorded::New(record) => {
                    recorded.push((index, step.event, step.key, record.clone()));
                    match (record.session, record.decision) {
                        (SessionEffect::Opened(id), _) => {
                            opened.push((index, id));
                            Done::Opened
                        }
                        (SessionEffect::Closed(id), _) => {
                            Done::Closed(opened.iter().rfind(|(_, of)| *of == id).expect("an opened session").0)
                        }
                        (SessionEffect::NoneOpen, _) => Done::NoneOpen,
                        (_, Decision::Denied { reason: Denial::KeyAlreadyUsed, .. }) => Done::CodeUsed,
                        _ => Done::Refused,
                    }
                }
                Recorded::Replay(record) => {
                    let of_scan = recorded.iter().rfind(|(_, event, key, _)| (*event, *key) == (step.event, step.key));
                    let (index, .., expected) = of_scan.expect("a record of the scan");
                    assert_eq!(record, *expected);
                    Done::Replay(*index)
                }
                Recorded::Mismatch => Done::Mismatch,
                other => panic!("{other:?}"),
            };
            all.push(done);
        }
        all
    }
}

/// Each case begins with an empty ledger.
fn cases() -> Vec<(&'static str, Vec<(Step, Done)>)> {
    use Done::*;
    let refused = |keys: std::ops::RangeInclusive<u8>| keys.map(|key| (entry(1, key).refused(), Refused));
    vec![
        ("an entry opens a session, whatever is open", vec![(entry(1, 1), Opened), (entry(2, 1), Opened)]),
        (
            "an exit closes the oldest session",
            vec![
                (entry(1, 1), Opened),
                (entry(2, 1), Opened),
                (exit(3, 1), Closed(0)),
                (exit(4, 1), Closed(1)),
                (exit(5, 1), NoneOpen),
            ],
        ),
        (
            "an exit closes only its own visitor's session",
            vec![(entry(1, 1), Opened), (exit(2, 2).of(2), NoneOpen), (exit(3, 1), Closed(0))],
        ),
        (
            "an exit closes a session that is exactly as old as the maximum",
            vec![(entry(1, 1), Opened), (exit(2, 1).at(12), Closed(0))],
        ),
        (
            "an exit closes no session that has timed out, but a later one",
            vec![
                (entry(1, 1), Opened),
                (entry(2, 1).at(1), Opened),
                (exit(3, 1).at(13), Closed(1)),
                (exit(4, 1).at(13), NoneOpen),
            ],
        ),
        (
            "a rejection changes no session",
            vec![
                (entry(1, 1), Opened),
                (exit(2, 1).refused(), Refused),
                (entry(3, 1).refused(), Refused),
                (exit(4, 1), Closed(0)),
                (exit(5, 1), NoneOpen),
            ],
        ),
        (
            "a retry gets its record, whatever would be decided now",
            vec![
                (entry(1, 1), Opened),
                (entry(1, 1), Replay(0)),
                (entry(1, 1).refused(), Replay(0)),
                (exit(2, 2).refused(), Refused),
                (exit(2, 2), Replay(3)),
                (exit(3, 3), Closed(0)),
                (exit(3, 3), Replay(5)),
                (exit(4, 3), NoneOpen),
                (exit(4, 3), Replay(7)),
            ],
        ),
        (
            "an event has one acceptance",
            vec![
                (entry(1, 1), Opened),
                (entry(1, 2), Mismatch),
                (entry(1, 2).refused(), Mismatch),
                (exit(1, 3), Mismatch),
                (entry(1, 1), Replay(0)),
            ],
        ),
        (
            "an event has seven rejections and then an acceptance",
            [
                refused(1..=7).collect(),
                vec![(entry(1, 9), Opened), (entry(1, 8).refused(), Mismatch), (entry(1, 7).refused(), Replay(6))],
            ]
            .concat(),
        ),
        (
            "an event has eight rejections at most",
            [
                refused(1..=8).collect(),
                vec![
                    (entry(1, 9), Mismatch),
                    (entry(1, 9).refused(), Mismatch),
                    (entry(1, 8), Replay(7)),
                    (entry(2, 9).refused(), Refused),
                ],
            ]
            .concat(),
        ),
        (
            "a record is valid until its retention ends",
            vec![
                (entry(1, 1), Opened),
                (entry(1, 1).at(24), Replay(0)),
                (entry(1, 2).at(24), Mismatch),
                (entry(1, 2).at(25), Opened),
                (entry(1, 1).at(25), Mismatch),
                (exit(2, 1).at(25), Closed(3)),
            ],
        ),
        (
            "expired rejections no longer count",
            [
                refused(1..=4).collect(),
                (5..=8).map(|key| (entry(1, key).refused().at(10), Refused)).collect::<Vec<_>>(),
                vec![(entry(1, 9).at(24), Mismatch)],
                (9..=12).map(|key| (entry(1, key).refused().at(25), Refused)).collect::<Vec<_>>(),
                vec![(entry(1, 13).at(25), Mismatch), (entry(1, 5).at(25), Replay(4))],
            ]
            .concat(),
        ),
        (
            "a code is used by one event",
            vec![
                (entry(1, 1).with_code(1), Opened),
                (entry(1, 1).with_code(1), Replay(0)),
                (entry(2, 1).with_code(1), CodeUsed),
                (entry(2, 1).with_code(1), Replay(2)),
                (exit(3, 1).with_code(1), CodeUsed),
                (exit(4, 1).with_code(2), Closed(0)),
                (entry(5, 1).with_code(2), CodeUsed),
            ],
        ),
        (
            "a rejection uses no code",
            vec![
                (entry(1, 1).with_code(1).refused(), Refused),
                (entry(2, 1).with_code(1), Opened),
                (entry(3, 1).with_code(1), CodeUsed),
            ],
        ),
        (
            "a code of an expired record is free, and then used again",
            vec![
                (entry(1, 1).with_code(1), Opened),
                (entry(2, 1).with_code(1).at(24), CodeUsed),
                (entry(3, 1).with_code(1).at(25), Opened),
                (entry(4, 1).with_code(1).at(25), CodeUsed),
            ],
        ),
        (
            "an expired event may use its own code again",
            vec![
                (entry(1, 1).with_code(1), Opened),
                (entry(1, 1).with_code(1).at(25), Opened),
                (entry(2, 1).with_code(1).at(25), CodeUsed),
            ],
        ),
        (
            "an expired event may use another code, and frees its own",
            vec![
                (entry(1, 1).with_code(1), Opened),
                (entry(1, 1).with_code(2).at(25), Opened),
                (entry(2, 1).with_code(1).at(25), Opened),
                (entry(3, 1).with_code(2).at(25), CodeUsed),
            ],
        ),
    ]
}

#[apply(on_every_engine)]
async fn recording_follows_the_rule(engine: Engine) {
    for (case, steps) in cases() {
        let (steps, expected): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
        assert_eq!(Storage::new(engine).await.record(&steps).await, expected, "{case}");
    }
}

macro_rules! on_every_database {
    ($($function:tt)*) => { on! { [SQLITE, POSTGRES]; $($function)* } };
}

/// Whatever is recorded: every engine does the same as the ledger in memory.
#[apply(on_every_database)]
async fn random_decisions_are_recorded_as_in_memory(engine: Engine) {
    let location = prop_oneof![Just(Location::Entry), Just(Location::Exit)];
    let step = (0..30_i64, 1..5_u8, 1..12_u8, 1..3_u8, location, any::<bool>(), prop::option::of(1..4_u8));
    let steps = prop::collection::vec(step, 1..60);
    let mut runner = TestRunner::new(Config { cases: 32, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps, |mut steps| {
        steps.sort_by_key(|(hour, ..)| *hour); // the clock only advances
        let step = |(hour, event, key, visitor, location, is_accepted, code)| Step {
            hour,
            event,
            key,
            visitor,
            location,
            is_accepted,
            code,
        };
        let steps: Vec<_> = steps.into_iter().map(step).collect();
        let [expected, done] = [Engine::Memory, engine].map(|engine| {
            block_in_place(|| Handle::current().block_on(async { Storage::new(engine).await.record(&steps).await }))
        });
        prop_assert_eq!(done, expected);
        Ok(())
    });
    outcome.unwrap();
}

/// While the table is locked, the decisions become one batch.
#[apply(with_database)]
async fn decisions_of_a_batch_that_depend_on_each_other_follow_the_rule(database: engine::Database) {
    let storage = Storage::postgres(database).await;
    let record = |step: Step| {
        let deadline = Instant::now() + Duration::from_secs(60);
        Box::pin(storage.ledger.record(step.record(), step.time(), deadline))
    };
    assert_eq!(storage.record(&[entry(1, 1), entry(2, 1)]).await, [Done::Opened, Done::Opened]);
    let steps = [
        exit(3, 1),
        exit(4, 1),
        exit(5, 1),
        entry(6, 2).of(2).with_code(1),
        exit(7, 3).of(2).with_code(1),
        entry(6, 2).of(2),
        entry(6, 4).of(2),
        entry(8, 1).refused(),
        entry(8, 2).refused(),
        entry(8, 3),
    ];
    let locked = storage.database().begin("LOCK TABLE decision IN ACCESS EXCLUSIVE MODE");
    let mut all = vec![record(entry(9, 9).of(9))];
    send(&mut all[0]).await;
    wait_until("the first statement waits", async || storage.database().waiting() > 0).await;
    for step in steps {
        let mut one = record(step);
        send(&mut one).await;
        all.push(one);
    }
    drop(locked);
    let first = all.remove(0).await;
    assert!(matches!(first, Ok(Recorded::New(_)) | Err(_)), "{first:?}: it may have waited for too long");
    let (mut done, mut closed) = (Vec::new(), BTreeSet::new());
    for one in all {
        done.push(match one.await.unwrap() {
            Recorded::New(record) => match (record.session, record.decision) {
                (SessionEffect::Opened(_), _) => "opened",
                (SessionEffect::Closed(id), _) => {
                    assert!(closed.insert(id), "two exits closed the same session");
                    "closed"
                }
                (SessionEffect::NoneOpen, _) => "none open",
                (_, Decision::Denied { reason: Denial::KeyAlreadyUsed, .. }) => "code used",
                _ => "refused",
            },
            Recorded::Replay(_) => "replay",
            Recorded::Mismatch => "mismatch",
            other => panic!("{other:?}"),
        });
    }
    let expected =
        ["closed", "closed", "none open", "opened", "code used", "replay", "mismatch", "refused", "refused", "opened"];
    assert_eq!(done, expected);
}

/// Polls a recording once, which sends it to the writer.
async fn send(recording: &mut (impl Future + Unpin)) {
    let mut recording = pin!(recording);
    poll_fn(|context| {
        assert!(recording.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// Even a connector that takes no locks cannot record a second acceptance, a second rejection in the same slot, or a
/// second use of a code.
#[apply(with_database)]
async fn postgres_refuses_what_no_connector_may_record(database: engine::Database) {
    Server::demo(&database.settings()).await.stopped().await;
    let insert = |event: u8, slot: u8, code: &str| {
        let denial = if slot == 0 { "NULL" } else { "'invalid_key'" };
        let code = if code.is_empty() { "NULL".to_owned() } else { format!("decode(repeat('{code}', 32), 'hex')") };
        database.query(&format!(
            "WITH inserted AS (
                 INSERT INTO decision (event_id, slot, fingerprint, recorded_at, event_time, location, store_id, denial,
                     visitor_id, visitor_type, code)
                 VALUES (decode(repeat('0{event}', 16), 'hex'), {slot}, decode(repeat('00', 32), 'hex'), 0, '', 'EXIT',
                     'S', {denial}, 'v', 'SHOPPER', {code})
                 ON CONFLICT DO NOTHING RETURNING id
             )
             SELECT count(*) FROM inserted"
        ))
    };
    for (event, slot, code) in [(1, 0, "0a"), (1, 1, ""), (1, 8, ""), (2, 0, "0b")] {
        assert_eq!(insert(event, slot, code), "1", "event {event}, slot {slot}, code {code}");
    }
    for (event, slot, code) in [(1, 0, "0c"), (1, 1, ""), (3, 0, "0a")] {
        assert_eq!(insert(event, slot, code), "0", "event {event}, slot {slot}, code {code}");
    }
}
