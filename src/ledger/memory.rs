//! The ledger in memory: records in a `DashMap`, bounded by retention and by capacity.
//!
//! Locks are taken in one order and none is held across an await: a shard of `events`, then one of the others.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::DashMap;
use dashmap::Entry::Occupied;

use super::codes::UsedCodes;
use super::event::EventRecords;
use super::sessions::Sessions;
use super::{
    DecisionCursor, DecisionEntry, DecisionPage, EVICTABLE_AFTER, Limits, Lookup, NewRecord, Page, Record, Recorded,
    SessionEffect, SessionId,
};
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial};
use crate::domain::ids::{EventId, VisitorId};
use crate::domain::scan::Location;

/// How much a sweep lets go of before it steps aside.
const SWEEP_BATCH: usize = 1000;

/// A ledger that lives and dies with the process.
#[derive(Debug)]
pub struct MemoryLedger {
    limits: Limits,
    events: DashMap<EventId, EventRecords>,
    sessions: Mutex<Sessions>,
    codes: Box<Mutex<UsedCodes>>,
    /// Every record in the order of recording, to find the oldest. An entry whose record is gone is passed over.
    order: Mutex<VecDeque<Place>>,
    records: AtomicUsize,
    evictions: AtomicU64,
    warned: AtomicBool,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) event: EventId,
    pub(super) fingerprint: Fingerprint,
    pub(super) recorded_at: DateTime<Utc>,
}

impl Place {
    fn cursor(&self) -> DecisionCursor {
        let recorded_at = self.recorded_at.timestamp_nanos_opt().unwrap_or(i64::MAX);
        DecisionCursor { recorded_at, event: self.event, fingerprint: self.fingerprint }
    }
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            events: DashMap::new(),
            sessions: Mutex::new(Sessions::new(limits.session_max_age, limits.capacity)),
            codes: Box::default(),
            order: Mutex::new(VecDeque::new()),
            records: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    pub(super) fn find(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Lookup {
        let records = self.events.get(&event);
        records.map_or(Lookup::Unknown, |records| records.find(fingerprint, now, self.limits.retention))
    }

    pub(super) fn record(&self, entry: &NewRecord, now: DateTime<Utc>) -> Recorded {
        loop {
            if let Some(recorded) = self.record_if_there_is_room(entry, now) {
                return recorded;
            }
            // The expired go first, since they are the oldest; then the oldest that no gate can still be retrying.
            if let Err(retry_after) = self.drop_oldest(EVICTABLE_AFTER.min(self.limits.retention), now) {
                return Recorded::Full { retry_after };
            }
        }
    }

    /// The atomic step: while the event's shard is locked, nobody else finds, records or opens anything for it. `None` when
    /// the ledger is full: making room may lock any shard, so it is not done in here.
    fn record_if_there_is_room(&self, entry: &NewRecord, now: DateTime<Utc>) -> Option<Recorded> {
        let NewRecord { event, fingerprint, store_id, decision, code } = entry;
        let retention = self.limits.retention;
        // Not `entry`, which would leave an empty event behind when there is no room.
        let mut shard = self.events.entry(event.id);
        if let Occupied(records) = &mut shard {
            match records.get().find(fingerprint, now, retention) {
                Lookup::Recorded(record) => return Some(Recorded::Replay(record)),
                Lookup::Mismatch => return Some(Recorded::Mismatch),
                Lookup::Unknown => {}
            }
            self.release(records.get_mut().remove(|_, record| record.is_past(retention, now)));
        }
        self.reserve()?;
        let place = Place { event: event.id, fingerprint: *fingerprint, recorded_at: now };
        // Another event with the same code is in another shard: the lock of the codes is what the two have in common.
        let decision = match (decision, code) {
            (Decision::Accepted(_), Some(code)) if !lock(&self.codes).use_up(*code, place, retention) => {
                Decision::Denied(Denial::KeyAlreadyUsed)
            }
            _ => decision.clone(),
        };
        let session = match (&decision, event.location) {
            (Decision::Denied(_), _) => SessionEffect::Untouched,
            (Decision::Accepted(grant), Location::Entry) => {
                SessionEffect::Opened(lock(&self.sessions).open(event, store_id.clone(), grant, now))
            }
            (Decision::Accepted(grant), Location::Exit) => {
                let closed = lock(&self.sessions).close(event, store_id, &grant.visitor.id, now);
                closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
            }
        };
        let record = Record { decision, session, recorded_at: now };
        shard.or_default().push(*fingerprint, record.clone());
        lock(&self.order).push_back(place);
        Some(Recorded::New(record))
    }

    /// Takes up the room of one record, if there is any.
    fn reserve(&self) -> Option<()> {
        let taken = self.records.fetch_update(Ordering::AcqRel, Ordering::Acquire, |records| {
            (records < self.limits.capacity).then(|| records.saturating_add(1))
        });
        taken.ok().map(|_| ())
    }

    /// Drops the oldest record if it is older than `age`, else says how long until it is.
    ///
    /// One that is further in the future than that was made by a clock that has been set back since: it would stand in the way
    /// of all that came after it, so it goes as well.
    fn drop_oldest(&self, age: TimeDelta, now: DateTime<Utc>) -> Result<(), TimeDelta> {
        let place = {
            let mut order = lock(&self.order);
            // Without a place, there is no record, or the only one is being written this very moment.
            let Some(oldest) = order.front() else { return Err(age) };
            let its = now.signed_duration_since(oldest.recorded_at);
            if its.abs() <= age {
                return Err(age.checked_sub(&its).unwrap_or(age));
            }
            order.pop_front()
        };
        let Some(place) = place else { return Ok(()) };
        let removed = self.remove(&place);
        // After the record: while that stands, nobody else may have its code.
        lock(&self.codes).free(&place);
        if removed > 0 && now.signed_duration_since(place.recorded_at) <= self.limits.retention {
            self.evictions.fetch_add(1, Ordering::Relaxed);
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    capacity = self.limits.capacity,
                    "the ledger is full: records are forgotten before their retention ends; raise ledger.capacity"
                );
            }
        }
        Ok(())
    }

    /// Removes the record at a place, if it is still there, and returns how many that were.
    fn remove(&self, place: &Place) -> usize {
        let Some(mut records) = self.events.get_mut(&place.event) else { return 0 };
        let removed = records
            .remove(|fingerprint, record| *fingerprint == place.fingerprint && record.recorded_at == place.recorded_at);
        drop(records);
        self.events.remove_if(&place.event, |_, records| records.is_empty());
        self.release(removed);
        removed
    }

    fn release(&self, records: usize) {
        self.records.fetch_sub(records, Ordering::AcqRel);
    }

    pub(super) fn sessions(&self, before: Option<SessionId>, limit: usize, now: DateTime<Utc>) -> Page {
        let mut sessions = lock(&self.sessions);
        sessions.time_out(now);
        sessions.page(before, limit)
    }

    /// Decisions, the newest first. Looks through all of them: this is a list for a person, now and then.
    pub(super) fn decisions(&self, before: Option<DecisionCursor>, limit: usize) -> DecisionPage {
        let before = before.unwrap_or(DecisionCursor::NEWEST);
        let mut newest = BTreeSet::new();
        for place in lock(&self.order).iter().map(Place::cursor).filter(|cursor| *cursor < before) {
            newest.insert(place);
            if newest.len() > limit.saturating_add(1) {
                newest.pop_first(); // one more than is wanted tells whether there are any
            }
        }
        let more = newest.len() > limit;
        let page: Vec<DecisionCursor> = newest.into_iter().rev().take(limit).collect();
        let next = page.last().filter(|_| more).copied();
        let decisions = page.iter().filter_map(|cursor| self.entry(cursor)).collect();
        DecisionPage { decisions, next }
    }

    fn entry(&self, cursor: &DecisionCursor) -> Option<DecisionEntry> {
        let DecisionCursor { event, fingerprint, .. } = *cursor;
        let record = self.events.get(&event)?.record(&fingerprint)?.clone();
        Some(DecisionEntry { event, fingerprint, record }).filter(|entry| entry.cursor() == *cursor)
    }

    pub(super) fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) {
        for mut records in self.events.iter_mut() {
            records.rename(visitor, pseudonym);
        }
        lock(&self.sessions).rename(visitor, pseudonym);
    }

    /// Lets go of some of what is past its time, and says whether there may be more: in between, scans come first.
    pub(super) fn sweep_some(&self, now: DateTime<Utc>) -> bool {
        let more_records = (0..SWEEP_BATCH).all(|_| self.drop_oldest(self.limits.retention, now).is_ok());
        let mut sessions = lock(&self.sessions);
        let more_open = (0..SWEEP_BATCH).all(|_| sessions.time_out_oldest(now));
        let more_ended = (0..SWEEP_BATCH).all(|_| sessions.forget_oldest(self.limits.retention, now));
        more_records || more_open || more_ended
    }

    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

/// A panic while the lock was held does not stop the gates: every update leaves the data usable at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
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

    /// A rejection of an event of its own.
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
    fn the_warning_that_the_ledger_is_full_comes_once_and_every_eviction_is_counted() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        let writer = move || Written(Arc::clone(&lines));
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

    /// What expired without anybody asking for it leaves no trace: neither of the record nor of its place in the order.
    #[test]
    fn a_sweep_leaves_nothing_that_has_expired() {
        let (ledger, start) = (ledger(100), DateTime::UNIX_EPOCH);
        for number in 0..50 {
            ledger.record(&entry(number, start), start);
        }
        let later = start.checked_add_signed(TimeDelta::days(8)).expect("in range");
        while ledger.sweep_some(later) {}
        assert_eq!((ledger.records(), ledger.events.len(), lock(&ledger.order).len()), (0, 0, 0));
        assert_eq!(ledger.evictions(), 0);
    }

    #[test]
    fn a_used_code_lives_and_dies_with_its_record() {
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
        // The oldest makes room, and its code is free; a rejection's going frees none.
        assert!(accept(3, 1, 1));
        assert!(!accept(4, 1, 1) && codes() == 2, "the rejection went, and the code has its new event");
        assert!(!accept(5, 1, 1) && codes() == 1, "the second code's record went");
        // Past its retention, unswept, it is anybody's; and an event that is new has one code.
        assert!(accept(6, 1, 1 + 7 * 24 + 1) && accept(3, 3, 1 + 7 * 24 + 1));
        assert_eq!(codes(), 2);
        let later = start.checked_add_signed(TimeDelta::days(30)).expect("in range");
        while ledger.sweep_some(later) {}
        assert_eq!((codes(), ledger.records()), (0, 0));
    }

    #[test]
    fn a_rejection_that_goes_frees_no_code_of_its_event() {
        let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
        let later = start.checked_add_signed(TimeDelta::hours(1)).expect("in range");
        let acceptance = with_code(accepted(0, Location::Entry), 1);
        let rejection = NewRecord { fingerprint: Fingerprint::from_bytes([0; 32]), ..entry(0, start) };
        ledger.record(&rejection, start);
        ledger.record(&acceptance, start);
        ledger.record(&entry(1, later), later); // in the place of the rejection
        assert!(matches!(ledger.find(acceptance.event.id, &acceptance.fingerprint, later), Lookup::Recorded(_)));
        assert_eq!(lock(&ledger.codes).len(), 1);
    }

    #[test]
    fn a_record_from_a_clock_that_was_fast_does_not_stand_in_the_way() {
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
    fn a_record_is_kept_for_exactly_its_retention() {
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
    fn a_session_may_be_open_for_exactly_its_greatest_age() {
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
    fn duplicates_at_the_last_free_place_are_all_answered() {
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
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
