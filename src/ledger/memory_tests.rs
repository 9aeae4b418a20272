//! Tests of the ledger in memory: eviction, retention, used codes, and simultaneous requests.

use std::sync::Arc;

use super::*;
use crate::digest::HashKey;
use crate::domain::decision::Grant;
use crate::domain::identity_key::IdentityKey;
use crate::domain::ids::{StoreId, VisitorId};
use crate::domain::scan::AuthEvent;
use crate::domain::visitor::{Visitor, VisitorType};
use crate::ledger::tests::{accepted, with_code};
use crate::ledger::{Session, SessionState};

/// A rejection of an event with this number.
fn entry(number: u32, now: DateTime<Utc>) -> NewRecord {
    let id = EventId::parse(&format!("00000000-0000-0000-0000-{number:012}")).expect("a UUID");
    let store_id = StoreId::parse("S").expect("an id");
    let key = IdentityKey::from_base64("YQ==").expect("Base64");
    NewRecord {
        event: AuthEvent { id, timestamp: now, location: Location::Entry },
        fingerprint: HashKey::new(&[0; 32]).fingerprint(&key, &store_id, Location::Entry),
        store_id,
        decision: Decision::Denied(Denial::KeyNotFound),
        code: None,
    }
}

fn ledger(capacity: usize) -> MemoryLedger {
    let (retention, session_max_age) = (TimeDelta::days(7), TimeDelta::hours(24));
    MemoryLedger::new(Limits { retention, capacity, cache: 0, session_max_age })
}

#[test]
fn full_ledger_warns_once_and_counts_every_eviction() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&log);
    let writer = move || SharedBuffer(Arc::clone(&lines));
    let subscriber = tracing_subscriber::fmt().with_writer(writer).finish();
    tracing::subscriber::with_default(subscriber, || {
        let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
        let later = start.checked_add_signed(TimeDelta::minutes(11)).expect("in range");
        for number in 0..2 {
            assert!(matches!(ledger.record(&entry(number, start), start), Recorded::New(_)));
        }
        for number in 2..4 {
            assert!(matches!(ledger.record(&entry(number, later), later), Recorded::New(_)));
        }
        assert_eq!((ledger.records(), ledger.evictions()), (2, 2));
    });
    let log = String::from_utf8(lock(&log).clone()).expect("UTF-8");
    assert_eq!(log.matches("the ledger is full").count(), 1, "{log}");
}

#[test]
fn used_code_is_freed_when_its_record_is_removed() {
    let (ledger, start) = (ledger(3), DateTime::UNIX_EPOCH);
    let accept = |number, code, hours| {
        let now = start.checked_add_signed(TimeDelta::hours(hours)).expect("in range");
        match ledger.record(&with_code(accepted(number, Location::Entry), code), now) {
            Recorded::New(record) => matches!(record.decision, Decision::Accepted(_)),
            other => panic!("{other:?}"),
        }
    };
    let codes = || lock(&ledger.codes).len();
    assert!(accept(0, 1, 0) && !accept(1, 1, 0) && accept(2, 2, 0));
    assert_eq!(codes(), 2);
    // The oldest record is evicted, and its code is free. Evicting a rejection frees no code.
    assert!(accept(3, 1, 1));
    assert!(!accept(4, 1, 1) && codes() == 2, "the rejection was evicted, and the code belongs to its new event");
    assert!(!accept(5, 1, 1) && codes() == 1, "the record of the second code was evicted");
    // An expired use does not block other events, even before a sweep. An event that is decided again has one code.
    assert!(accept(6, 1, 1 + 7 * 24 + 1) && accept(3, 3, 1 + 7 * 24 + 1));
    assert_eq!(codes(), 2);
    let later = start.checked_add_signed(TimeDelta::days(30)).expect("in range");
    while ledger.sweep_batch(later) {}
    assert_eq!((codes(), ledger.records(), ledger.newest.len()), (0, 0, 0));
}

#[test]
fn evicted_rejection_frees_no_code_of_its_event() {
    let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
    let later = start.checked_add_signed(TimeDelta::hours(1)).expect("in range");
    let acceptance = with_code(accepted(0, Location::Entry), 1);
    let rejection = NewRecord { fingerprint: Fingerprint::from_bytes([0; 32]), ..entry(0, start) };
    ledger.record(&rejection, start);
    ledger.record(&acceptance, start);
    ledger.record(&entry(1, later), later); // evicts the rejection
    assert!(matches!(ledger.find(acceptance.event.id, &acceptance.fingerprint, later), Lookup::Recorded(_)));
    assert_eq!(lock(&ledger.codes).len(), 1);
}

#[test]
fn record_from_a_fast_clock_does_not_block_eviction() {
    let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
    let fast = start.checked_add_signed(TimeDelta::hours(8)).expect("in range");
    let soon = start.checked_add_signed(TimeDelta::minutes(1)).expect("in range");
    assert!(matches!(ledger.record(&entry(0, fast), fast), Recorded::New(_)));
    assert!(matches!(ledger.record(&entry(1, start), start), Recorded::New(_)));
    assert!(matches!(ledger.record(&entry(2, soon), soon), Recorded::New(_)));
    let full = ledger.record(&entry(3, soon), soon);
    assert_eq!(full, Recorded::Full { retry_after: TimeDelta::minutes(9) });
}

#[test]
fn record_is_kept_for_exactly_its_retention() {
    let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
    let entry = entry(0, start);
    ledger.record(&entry, start);
    let end = start.checked_add_signed(TimeDelta::days(7)).expect("in range");
    let past = end.checked_add_signed(TimeDelta::nanoseconds(1)).expect("in range");
    let find = |at| ledger.find(entry.event.id, &entry.fingerprint, at);
    assert!(matches!(find(end), Lookup::Recorded(_)));
    assert_eq!(find(past), Lookup::Unknown);
}

#[test]
fn session_may_be_open_for_exactly_its_maximum_age() {
    let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
    let visitor = Visitor { id: VisitorId::parse("v").expect("an id"), kind: VisitorType::Associate };
    let grant = Grant { visitor, device: None, payment_source: None };
    let accepted = NewRecord { decision: Decision::Accepted(grant), ..entry(0, start) };
    ledger.record(&accepted, start);
    let end = start.checked_add_signed(TimeDelta::hours(24)).expect("in range");
    let past = end.checked_add_signed(TimeDelta::nanoseconds(1)).expect("in range");
    let state = |at| ledger.sessions(None, 1, at).sessions.first().map(Session::state);
    assert_eq!(state(end), Some(SessionState::Open));
    assert_eq!(state(past), Some(SessionState::TimedOut));
}

#[test]
fn simultaneous_duplicates_are_all_answered_when_one_record_fits() {
    for round in 0..200 {
        let (ledger, now) = (ledger(1), DateTime::UNIX_EPOCH);
        std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| ledger.record(&entry(round, now), now))).collect();
            for recorded in tries.into_iter().map(|thread| thread.join().expect("no panic")) {
                assert!(matches!(recorded, Recorded::New(_) | Recorded::Replay(_)), "{recorded:?}");
            }
        });
    }
}

#[derive(Clone)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
