//! The ledger in memory: records in a `DashMap`, bounded by retention and by capacity.
//!
//! Locks are taken in one order and none is held across an await: a shard of `events`, then `sessions`; `order` alone.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::DashMap;

use super::event::EventRecords;
use super::sessions::Sessions;
use super::{EVICTABLE_AFTER, Entry, Lookup, Page, Record, Recorded, SessionEffect, SessionId};
use crate::digest::Fingerprint;
use crate::domain::decision::Decision;
use crate::domain::ids::EventId;
use crate::domain::scan::Location;

/// How much a ledger keeps, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a record is kept, at least 24 hours.
    pub retention: TimeDelta,
    /// How many records there may be, and how many sessions.
    pub capacity: usize,
    /// How long a session may be open.
    pub session_max_age: TimeDelta,
}

/// A ledger that lives and dies with the process.
#[derive(Debug)]
pub struct MemoryLedger {
    limits: Limits,
    events: DashMap<EventId, EventRecords>,
    sessions: Mutex<Sessions>,
    /// Every record in the order of recording, to find the oldest. An entry whose record is gone is passed over.
    order: Mutex<VecDeque<Place>>,
    records: AtomicUsize,
    evictions: AtomicU64,
    warned: AtomicBool,
}

/// Where a record is.
#[derive(Debug)]
struct Place {
    event: EventId,
    fingerprint: Fingerprint,
    recorded_at: DateTime<Utc>,
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            events: DashMap::new(),
            sessions: Mutex::new(Sessions::new(limits.session_max_age, limits.capacity)),
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

    pub(super) fn record(&self, entry: Entry, now: DateTime<Utc>) -> Recorded {
        // Room is made before the event's shard is locked, since making it may lock any shard.
        if let Err(retry_after) = self.reserve(now) {
            return match self.find(entry.event.id, &entry.fingerprint, now) {
                Lookup::Recorded(record) => Recorded::Replay(record),
                Lookup::Mismatch => Recorded::Mismatch,
                Lookup::Unknown => Recorded::Full { retry_after },
            };
        }
        let (event, fingerprint) = (entry.event.id, entry.fingerprint);
        let recorded = self.record_in_reserved_room(entry, now);
        match recorded {
            Recorded::New(_) => lock(&self.order).push_back(Place { event, fingerprint, recorded_at: now }),
            _ => self.release(1),
        }
        recorded
    }

    /// The atomic step: while the event's shard is locked, nobody else finds, records or opens anything for it.
    fn record_in_reserved_room(&self, entry: Entry, now: DateTime<Utc>) -> Recorded {
        let Entry { event, fingerprint, store_id, decision } = entry;
        let mut records = self.events.entry(event.id).or_default();
        match records.find(&fingerprint, now, self.limits.retention) {
            Lookup::Recorded(record) => return Recorded::Replay(record),
            Lookup::Mismatch => return Recorded::Mismatch,
            Lookup::Unknown => {}
        }
        let retention = self.limits.retention;
        self.release(records.remove(|_, record| record.is_past(retention, now)));
        let session = match (&decision, event.location) {
            (Decision::Denied(_), _) => SessionEffect::Untouched,
            (Decision::Accepted(grant), Location::Entry) => {
                SessionEffect::Opened(lock(&self.sessions).open(&event, store_id, grant, now))
            }
            (Decision::Accepted(grant), Location::Exit) => {
                let closed = lock(&self.sessions).close(&event, &store_id, &grant.visitor.id, now);
                closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
            }
        };
        let record = Record { decision, session, recorded_at: now };
        records.push(fingerprint, record.clone());
        Recorded::New(record)
    }

    /// Takes up room for one record; at capacity, by letting go of expired records, then of the oldest that no gate can still
    /// be retrying. Otherwise says how long until that may be.
    fn reserve(&self, now: DateTime<Utc>) -> Result<(), TimeDelta> {
        loop {
            let taken = self.records.fetch_update(Ordering::AcqRel, Ordering::Acquire, |records| {
                (records < self.limits.capacity).then(|| records.saturating_add(1))
            });
            if taken.is_ok() {
                return Ok(());
            }
            self.drop_oldest(EVICTABLE_AFTER.min(self.limits.retention), now)?;
        }
    }

    /// Drops the oldest record if it is older than `age`.
    fn drop_oldest(&self, age: TimeDelta, now: DateTime<Utc>) -> Result<(), TimeDelta> {
        let place = {
            let mut order = lock(&self.order);
            // Without a place, every record is being written this very moment.
            let oldest = order.front().map_or(now, |place| place.recorded_at);
            let left = age.checked_sub(&now.signed_duration_since(oldest)).unwrap_or(TimeDelta::MAX);
            match order.front() {
                Some(_) if left < TimeDelta::zero() => order.pop_front(),
                _ => return Err(left),
            }
        };
        if let Some(place) = place
            && self.remove(&place) > 0
            && now.signed_duration_since(place.recorded_at) <= self.limits.retention
        {
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

    pub(super) fn sweep(&self, now: DateTime<Utc>) {
        // One record at a time: a scan never waits for more than one removal.
        while self.drop_oldest(self.limits.retention, now).is_ok() {}
        let mut sessions = lock(&self.sessions);
        sessions.time_out(now);
        sessions.forget(self.limits.retention, now);
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
    use crate::domain::decision::Denial;
    use crate::domain::identity_key::IdentityKey;
    use crate::domain::ids::StoreId;
    use crate::domain::scan::AuthEvent;

    /// A rejection of an event of its own.
    fn entry(number: u32, now: DateTime<Utc>) -> Entry {
        let id = EventId::parse(&format!("00000000-0000-0000-0000-{number:012}")).expect("a UUID");
        let store_id = StoreId::parse("S").expect("an id");
        let key = IdentityKey::from_base64("YQ==").expect("Base64");
        Entry {
            event: AuthEvent { id, timestamp: now, location: Location::Entry },
            fingerprint: HashKey::new(&[0; 32]).fingerprint(&key, &store_id, Location::Entry),
            store_id,
            decision: Decision::Denied(Denial::KeyNotFound),
        }
    }

    fn ledger(capacity: usize) -> MemoryLedger {
        let (retention, session_max_age) = (TimeDelta::days(7), TimeDelta::hours(24));
        MemoryLedger::new(Limits { retention, capacity, session_max_age })
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
                assert!(matches!(ledger.record(entry(number, start), start), Recorded::New(_)));
            }
            for number in 2..4 {
                assert!(matches!(ledger.record(entry(number, later), later), Recorded::New(_)));
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
            ledger.record(entry(number, start), start);
        }
        ledger.sweep(start.checked_add_signed(TimeDelta::days(8)).expect("in range"));
        assert_eq!((ledger.records(), ledger.events.len(), lock(&ledger.order).len()), (0, 0, 0));
        assert_eq!(ledger.evictions(), 0);
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
