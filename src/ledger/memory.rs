//! The ledger in memory: bounded by retention and by capacity.
//!
//! Locks are taken in one order and none is held across an await: a shard of `newest`, then the records, then one of the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::{DashMap, Entry};

use super::codes::{Place, UsedCodes};
use super::event::what_stands;
use super::records::{Kept, Number, Records};
use super::sessions::Sessions;
use super::{
    DecisionCursor, DecisionPage, EVICTABLE_AFTER, Limits, Lookup, NewRecord, Page, Record, Recorded, SessionEffect,
    SessionId,
};
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial};
use crate::domain::ids::{EventId, VisitorId};
use crate::domain::scan::Location;

/// How much a sweep lets go of before it steps aside.
const SOME: usize = 1000;

/// In how many parts the index of events is. When one grows, whoever asks for an event of it waits until all of it is in its new place: with ten
/// million events in four parts, 100 ms.
const SHARDS: usize = 256;

/// A ledger that lives and dies with the process.
#[derive(Debug)]
pub struct MemoryLedger {
    limits: Limits,
    /// The newest record of each event; it may have left. In [`SHARDS`].
    newest: DashMap<EventId, Number>,
    records: RwLock<Records>,
    sessions: Mutex<Sessions>,
    codes: Box<Mutex<UsedCodes>>,
    evictions: AtomicU64,
    warned: AtomicBool,
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
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
        what_stands(self.read().of(Some(newest)), fingerprint, now, self.limits.retention)
    }

    pub(super) fn record(&self, entry: &NewRecord, now: DateTime<Utc>) -> Recorded {
        // One that has expired goes for each that comes: between two sweeps they do not gather.
        let _ = self.drop_oldest(self.limits.retention, now);
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
        let newest = self.newest.entry(event.id);
        let before = match &newest {
            Entry::Occupied(newest) => Some(*newest.get()),
            Entry::Vacant(_) => None,
        };
        let mut records = self.write();
        match what_stands(records.of(before), fingerprint, now, retention) {
            Lookup::Recorded(record) => return Some(Recorded::Replay(record)),
            Lookup::Mismatch => return Some(Recorded::Mismatch),
            Lookup::Unknown => {}
        }
        if records.len() >= self.limits.capacity {
            return None;
        }
        let place = Place { event: event.id, fingerprint: *fingerprint, recorded_at: now };
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
        let kept = Kept { event: event.id, fingerprint: *fingerprint, record: record.clone(), before };
        newest.insert(records.push(kept));
        Some(Recorded::New(record))
    }

    /// Drops the oldest record if it is older than `age`, else says how long until it is.
    ///
    /// One that is further in the future than that was made by a clock that has been set back since: it would stand in the way
    /// of all that came after it, so it goes as well.
    fn drop_oldest(&self, age: TimeDelta, now: DateTime<Utc>) -> Result<(), TimeDelta> {
        let (number, oldest) = {
            let mut records = self.write();
            let Some(oldest) = records.oldest() else { return Err(age) };
            let its = now.signed_duration_since(oldest.record.recorded_at);
            if its.abs() <= age {
                return Err(age.checked_sub(&its).unwrap_or(age));
            }
            records.pop().ok_or(age)?
        };
        self.newest.remove_if(&oldest.event, |_, newest| *newest == number);
        let recorded_at = oldest.record.recorded_at;
        // After the record: while that stands, nobody else may have its code.
        lock(&self.codes).free(&Place { event: oldest.event, fingerprint: oldest.fingerprint, recorded_at });
        if now.signed_duration_since(recorded_at) <= self.limits.retention {
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

    pub(super) fn sessions(&self, before: Option<SessionId>, limit: usize, now: DateTime<Utc>) -> Page {
        let mut sessions = lock(&self.sessions);
        sessions.time_out(now);
        sessions.page(before, limit)
    }

    /// Decisions, the newest first. Looks through all of them: this is a list for a person, now and then.
    pub(super) fn decisions(&self, before: Option<DecisionCursor>, limit: usize) -> DecisionPage {
        let before = before.unwrap_or(DecisionCursor::NEWEST);
        let mut newest = BTreeMap::new();
        let records = self.read();
        // From the newest on nearly all is left out at once; that no scan can record meanwhile is over soon.
        for kept in records.newest_first() {
            let cursor = kept.cursor();
            let is_wanted =
                newest.len() <= limit || newest.first_key_value().is_some_and(|(oldest, _)| cursor > *oldest);
            if cursor < before && is_wanted {
                newest.insert(cursor, kept);
            }
            if newest.len() > limit.saturating_add(1) {
                newest.pop_first(); // one more than is wanted tells whether there are any
            }
        }
        let more = newest.len() > limit;
        let (cursors, page): (Vec<_>, Vec<_>) = newest.into_iter().rev().take(limit).unzip();
        let next = cursors.last().filter(|_| more).copied();
        DecisionPage { decisions: page.into_iter().map(Kept::entry).collect(), next }
    }

    pub(super) fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) {
        let mut from = Some(Number::MIN);
        while let Some(number) = from {
            from = self.write().rename_some(number, visitor, pseudonym);
        }
        lock(&self.sessions).rename(visitor, pseudonym);
    }

    /// Lets go of some of what is past its time, and says whether there may be more: in between, scans come first.
    pub(super) fn sweep_some(&self, now: DateTime<Utc>) -> bool {
        let more_records = (0..SOME).all(|_| self.drop_oldest(self.limits.retention, now).is_ok());
        let mut sessions = lock(&self.sessions);
        let more_open = (0..SOME).all(|_| sessions.time_out_oldest(now));
        let more_ended = (0..SOME).all(|_| sessions.forget_oldest(self.limits.retention, now));
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

/// A panic while the lock was held does not stop the gates: every update leaves the data usable at each step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
