//! The ledger in memory, bounded by retention and by capacity.
//!
//! Locks are always taken in this order, and never held across an await: a shard of `newest`, then `records`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::{DashMap, Entry};
use parking_lot::RwLock;

use super::records::{Number, Records, StoredRecord};
use super::rule::{self, Outcome};
use super::{
    DecisionEntry, EVICTABLE_AFTER, Limits, Lookup, NewRecord, Page, Record, RecordId, Recorded, Session, SessionEffect,
};
use crate::digest::Fingerprint;
use crate::domain::ids::{EventId, VisitorId};

/// The maximum number of records that one step of a sweep removes before scans are served.
const SWEEP_BATCH: usize = 1000;

/// The maximum number of records that a list reads before scans are served.
const READ_BATCH: usize = 10_000;

/// The number of shards of the index of events. While a shard grows, requests for its events wait until it is copied:
/// 100 ms with ten million events in four shards.
const SHARDS: usize = 256;

/// A ledger in this process's memory.
#[derive(Debug)]
pub struct MemoryLedger {
    limits: Limits,
    /// The number of the newest record of each event, which may have been removed. Has [`SHARDS`] shards.
    newest: DashMap<EventId, Number>,
    records: RwLock<Records>,
    evictions: AtomicU64,
    warned: AtomicBool,
}

/// A record that was removed.
struct Removed {
    number: Number,
    event: EventId,
    recorded_at: DateTime<Utc>,
}

impl MemoryLedger {
    /// An empty ledger.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            newest: DashMap::with_shard_amount(SHARDS),
            records: RwLock::new(Records::new()),
            evictions: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    pub(super) fn find(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Lookup {
        let Some(newest) = self.newest.get(&event).map(|newest| *newest) else { return Lookup::Unknown };
        rule::find(self.records.read().records_of(Some(newest)), fingerprint, now, self.limits.retention)
    }

    pub(super) fn record(&self, entry: &NewRecord, now: DateTime<Utc>) -> Recorded {
        loop {
            if let Some(recorded) = self.record_unless_full(entry, now) {
                return recorded;
            }
            // The oldest record that no gate can still be retrying is evicted.
            if let Err(retry_after) = self.drop_oldest(EVICTABLE_AFTER.min(self.limits.retention), now) {
                return Recorded::Full { retry_after };
            }
        }
    }

    /// The atomic step: while the event's shard is locked, no other request can find or record anything for the event.
    /// Returns `None` when the ledger is full. The caller evicts then, since eviction may lock any shard.
    fn record_unless_full(&self, entry: &NewRecord, now: DateTime<Utc>) -> Option<Recorded> {
        let retention = self.limits.retention;
        let newest = self.newest.entry(entry.scan.event.id);
        let before = match &newest {
            Entry::Occupied(newest) => Some(*newest.get()),
            Entry::Vacant(_) => None,
        };
        let mut records = self.records.write();
        let used = entry.code.and_then(|code| records.code_use(&code));
        let (decision, step, uses) = match rule::apply(entry, records.records_of(before), used, now, retention) {
            Outcome::Replay(record) => return Some(Recorded::Replay(record)),
            Outcome::Mismatch => return Some(Recorded::Mismatch),
            Outcome::New { decision, session, uses } => (decision, session, uses),
        };
        // Each new record removes one expired record, so that these do not accumulate between two sweeps.
        let removed = self.remove_oldest(&mut records, retention, now).ok();
        if removed.is_none() && records.len() >= self.limits.capacity {
            return None;
        }
        let stored = StoredRecord {
            scan: entry.scan.clone(),
            fingerprint: entry.fingerprint,
            record: Record { decision, session: SessionEffect::Untouched, recorded_at: now },
            code: uses.map(Box::new),
            before,
            closed_by: None,
            next_open: None,
        };
        let (number, record) = records.add(stored, step, self.limits.session_max_age);
        drop(newest.insert(number));
        drop(records);
        if let Some(removed) = removed {
            self.forget(&removed, now);
        }
        Some(Recorded::New(record))
    }

    /// Removes the oldest record if it is older than `age`. Otherwise returns the time until it is.
    fn drop_oldest(&self, age: TimeDelta, now: DateTime<Utc>) -> Result<(), TimeDelta> {
        let removed = self.remove_oldest(&mut self.records.write(), age, now)?;
        self.forget(&removed, now);
        Ok(())
    }

    /// Removes the oldest record if it is older than `age`. Otherwise returns the time until it is. After the locks are
    /// released, the caller must [forget](Self::forget) the removed record, which may lock any shard.
    ///
    /// A record whose time is more than `age` in the future was made before the clock was set back. It is removed as
    /// well, since it would otherwise block the removal of all later records.
    fn remove_oldest(&self, records: &mut Records, age: TimeDelta, now: DateTime<Utc>) -> Result<Removed, TimeDelta> {
        let oldest_age = now.signed_duration_since(records.oldest().ok_or(age)?.record.recorded_at);
        if oldest_age.abs() <= age {
            return Err(age.checked_sub(&oldest_age).unwrap_or(age));
        }
        let (number, StoredRecord { scan, record, .. }) = records.pop().ok_or(age)?;
        Ok(Removed { number, event: scan.event.id, recorded_at: record.recorded_at })
    }

    /// Removes a removed record from the index of events, and counts it if it was evicted.
    fn forget(&self, removed: &Removed, now: DateTime<Utc>) {
        self.newest.remove_if(&removed.event, |_, newest| *newest == removed.number);
        if now.signed_duration_since(removed.recorded_at) <= self.limits.retention {
            self.evictions.fetch_add(1, Ordering::Relaxed);
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    capacity = self.limits.capacity,
                    "the ledger is full: the oldest records are removed before their retention ends; raise ledger.capacity"
                );
            }
        }
    }

    /// Lists sessions, newest first. Between two sessions may be any number of other records, so the lock, which blocks
    /// recording, is released from time to time.
    pub(super) fn sessions(&self, before: Option<RecordId>, limit: usize, now: DateTime<Utc>) -> Page<Session> {
        let (mut rows, mut from) = (Vec::new(), before);
        loop {
            let (some, last) = self.records.read().sessions(from, READ_BATCH, now, self.limits.session_max_age);
            rows.extend(some);
            if rows.len() > limit || last.is_none() {
                return Page::new(rows, limit, |session| session.id);
            }
            from = last;
        }
    }

    /// Lists decisions, newest first.
    pub(super) fn decisions(&self, before: Option<RecordId>, limit: usize) -> Page<DecisionEntry> {
        let records = self.records.read();
        Page::new(records.decisions(before), limit, |decision| decision.id)
    }

    pub(super) fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) {
        let mut from = Some(Number::MIN);
        while let Some(number) = from {
            from = self.records.write().pseudonymize_block(number, visitor, pseudonym);
        }
        self.records.write().pseudonymize_open(visitor, pseudonym);
    }

    /// Removes some expired records, and returns whether there may be more. Scans are served between two calls.
    pub(super) fn sweep_batch(&self, now: DateTime<Utc>) -> bool {
        (0..SWEEP_BATCH).all(|_| self.drop_oldest(self.limits.retention, now).is_ok())
    }

    pub(super) fn records(&self) -> usize {
        self.records.read().len()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::domain::decision::{Decision, Denial};
    use crate::domain::scan::Location;
    use crate::ledger::tests::{accepted, with_code};

    /// A rejection of an event with this number.
    fn entry(number: u32) -> NewRecord {
        let decision = Decision::refuse_unknown(Denial::KeyNotFound);
        NewRecord { decision, ..accepted(number, Location::Entry) }
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
                assert!(matches!(ledger.record(&entry(number), start), Recorded::New(_)));
            }
            for number in 2..4 {
                assert!(matches!(ledger.record(&entry(number), later), Recorded::New(_)));
            }
            assert_eq!((ledger.records(), ledger.evictions()), (2, 2));
        });
        let log = String::from_utf8(log.lock().expect("no panic").clone()).expect("UTF-8");
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
        let codes = || ledger.records.read().indexed()[0];
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
        let rejection = NewRecord { fingerprint: Fingerprint::from_bytes([0; 32]), ..entry(0) };
        ledger.record(&rejection, start);
        ledger.record(&acceptance, start);
        ledger.record(&entry(1), later); // evicts the rejection
        assert!(matches!(ledger.find(acceptance.scan.event.id, &acceptance.fingerprint, later), Lookup::Recorded(_)));
        assert_eq!(ledger.records.read().indexed()[0], 1);
    }

    #[test]
    fn record_from_a_fast_clock_does_not_block_eviction() {
        let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
        let fast = start.checked_add_signed(TimeDelta::hours(8)).expect("in range");
        let soon = start.checked_add_signed(TimeDelta::minutes(1)).expect("in range");
        assert!(matches!(ledger.record(&entry(0), fast), Recorded::New(_)));
        assert!(matches!(ledger.record(&entry(1), start), Recorded::New(_)));
        assert!(matches!(ledger.record(&entry(2), soon), Recorded::New(_)));
        let full = ledger.record(&entry(3), soon);
        assert_eq!(full, Recorded::Full { retry_after: TimeDelta::minutes(9) });
    }

    #[test]
    fn record_is_kept_for_exactly_its_retention() {
        let (ledger, start) = (ledger(2), DateTime::UNIX_EPOCH);
        let entry = entry(0);
        ledger.record(&entry, start);
        let end = start.checked_add_signed(TimeDelta::days(7)).expect("in range");
        let past = end.checked_add_signed(TimeDelta::nanoseconds(1)).expect("in range");
        let find = |at| ledger.find(entry.scan.event.id, &entry.fingerprint, at);
        assert!(matches!(find(end), Lookup::Recorded(_)));
        assert_eq!(find(past), Lookup::Unknown);
    }

    #[test]
    fn simultaneous_duplicates_are_all_answered_when_one_record_fits() {
        for round in 0..200 {
            let (ledger, now) = (ledger(1), DateTime::UNIX_EPOCH);
            std::thread::scope(|scope| {
                let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| ledger.record(&entry(round), now))).collect();
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
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
