//! The ledger in memory, bounded by retention and by capacity.
//!
//! Locks are always taken in this order, and never held across an await: a shard of `newest`, then `records`, then one
//! of the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::{DashMap, Entry};

use super::codes::{RecordKey, UsedCodes};
use super::event::find_record;
use super::records::{Number, Records, StoredRecord};
use super::sessions::Sessions;
use super::{
    DecisionCursor, DecisionPage, EVICTABLE_AFTER, Limits, Lookup, NewRecord, Page, Record, Recorded, SessionEffect,
    SessionId,
};
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial};
use crate::domain::ids::{EventId, VisitorId};
use crate::domain::scan::Location;

/// The maximum number of records and of sessions that one step of a sweep removes before scans are served.
const SWEEP_BATCH: usize = 1000;

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
    sessions: Mutex<Sessions>,
    codes: Box<Mutex<UsedCodes>>,
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
            sessions: Mutex::new(Sessions::new(limits.session_max_age, limits.capacity)),
            codes: Box::default(),
            evictions: AtomicU64::new(0),
            warned: AtomicBool::new(false),
        }
    }

    pub(super) fn find(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Lookup {
        let Some(newest) = self.newest.get(&event).map(|newest| *newest) else { return Lookup::Unknown };
        find_record(self.read().records_of(Some(newest)), fingerprint, now, self.limits.retention)
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
        let NewRecord { event, fingerprint, store_id, decision, code } = entry;
        let retention = self.limits.retention;
        let newest = self.newest.entry(event.id);
        let before = match &newest {
            Entry::Occupied(newest) => Some(*newest.get()),
            Entry::Vacant(_) => None,
        };
        let mut records = self.write();
        match find_record(records.records_of(before), fingerprint, now, retention) {
            Lookup::Recorded(record) => return Some(Recorded::Replay(record)),
            Lookup::Mismatch => return Some(Recorded::Mismatch),
            Lookup::Unknown => {}
        }
        // Each new record removes one expired record, so that these do not accumulate between two sweeps.
        let removed = self.remove_oldest(&mut records, retention, now).ok();
        if removed.is_none() && records.len() >= self.limits.capacity {
            return None;
        }
        let key = RecordKey { event: event.id, fingerprint: *fingerprint, recorded_at: now };
        let decision = match (decision, code) {
            (Decision::Accepted(_), Some(code)) if !lock(&self.codes).mark_used(*code, key, retention) => {
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
        let stored = StoredRecord { event: event.id, fingerprint: *fingerprint, record: record.clone(), before };
        drop(newest.insert(records.push(stored)));
        drop(records);
        if let Some(removed) = removed {
            self.forget(&removed, now);
        }
        Some(Recorded::New(record))
    }

    /// Removes the oldest record if it is older than `age`. Otherwise returns the time until it is.
    fn drop_oldest(&self, age: TimeDelta, now: DateTime<Utc>) -> Result<(), TimeDelta> {
        let removed = self.remove_oldest(&mut self.write(), age, now)?;
        self.forget(&removed, now);
        Ok(())
    }

    /// Removes the oldest record if it is older than `age`. Otherwise returns the time until it is. After the locks are
    /// released, the caller must [forget](Self::forget) the removed record, which may lock any shard.
    ///
    /// A record whose time is more than `age` in the future was made before the clock was set back. It is removed as
    /// well, since it would otherwise block the removal of all later records.
    fn remove_oldest(&self, records: &mut Records, age: TimeDelta, now: DateTime<Utc>) -> Result<Removed, TimeDelta> {
        let oldest_age = records.oldest().ok_or(age)?.record.age(now);
        if oldest_age.abs() <= age {
            return Err(age.checked_sub(&oldest_age).unwrap_or(age));
        }
        let (number, StoredRecord { event, fingerprint, record, .. }) = records.pop().ok_or(age)?;
        let recorded_at = record.recorded_at;
        // The code is freed after the record is removed: while the record exists, no other event may use its code.
        lock(&self.codes).free(&RecordKey { event, fingerprint, recorded_at });
        Ok(Removed { number, event, recorded_at })
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

    pub(super) fn sessions(&self, before: Option<SessionId>, limit: usize, now: DateTime<Utc>) -> Page {
        let mut sessions = lock(&self.sessions);
        sessions.time_out(now);
        sessions.page(before, limit)
    }

    /// Lists decisions, newest first. Reads all records, which is acceptable because only operators use this list.
    pub(super) fn decisions(&self, before: Option<DecisionCursor>, limit: usize) -> DecisionPage {
        let before = before.unwrap_or(DecisionCursor::NEWEST);
        let mut newest = BTreeMap::new();
        let records = self.read();
        // From the newest on, nearly every record is skipped quickly, so the lock, which blocks recording, is held only
        // briefly.
        for stored in records.newest_first() {
            let cursor = stored.cursor();
            let is_wanted =
                newest.len() <= limit || newest.first_key_value().is_some_and(|(oldest, _)| cursor > *oldest);
            if cursor < before && is_wanted {
                newest.insert(cursor, stored);
            }
            if newest.len() > limit.saturating_add(1) {
                newest.pop_first(); // one record more than the limit shows that there is a next page
            }
        }
        let more = newest.len() > limit;
        let (cursors, page): (Vec<_>, Vec<_>) = newest.into_iter().rev().take(limit).unzip();
        let next = cursors.last().filter(|_| more).copied();
        DecisionPage { decisions: page.into_iter().map(StoredRecord::entry).collect(), next }
    }

    pub(super) fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) {
        let mut from = Some(Number::MIN);
        while let Some(number) = from {
            from = self.write().pseudonymize_block(number, visitor, pseudonym);
        }
        lock(&self.sessions).pseudonymize(visitor, pseudonym);
    }

    /// Removes some expired records and sessions, and returns whether there may be more. Scans are served between two
    /// calls.
    pub(super) fn sweep_batch(&self, now: DateTime<Utc>) -> bool {
        let more_records = (0..SWEEP_BATCH).all(|_| self.drop_oldest(self.limits.retention, now).is_ok());
        let mut sessions = lock(&self.sessions);
        let more_open = (0..SWEEP_BATCH).all(|_| sessions.time_out_oldest(now));
        let more_ended = (0..SWEEP_BATCH).all(|_| sessions.forget_oldest(self.limits.retention, now));
        more_records || more_open || more_ended
    }

    pub(super) fn records(&self) -> usize {
        self.read().len()
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    fn read(&self) -> RwLockReadGuard<'_, Records> {
        self.records.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Records> {
        self.records.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Locks even after a panic of another holder, so that the gates keep working: every update leaves the data consistent
/// at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
