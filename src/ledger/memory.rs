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
#[path = "memory_tests.rs"]
mod tests;
