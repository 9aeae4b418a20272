//! A cache of records in front of a database. Records never change, so a cached record is never outdated. When the
//! cache is full, the oldest record is evicted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use dashmap::DashMap;

use super::Record;
use crate::digest::Fingerprint;
use crate::domain::ids::EventId;

type Scan = (EventId, Fingerprint);

/// A bounded number of records by event and fingerprint.
#[derive(Debug)]
pub(super) struct RecordCache {
    records: DashMap<Scan, Record>,
    /// The scans in the order in which their records were added.
    order: Mutex<VecDeque<Scan>>,
    capacity: usize,
}

impl RecordCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { records: DashMap::new(), order: Mutex::default(), capacity }
    }

    /// The record of this scan, if it is cached and has not expired.
    pub(super) fn find(
        &self,
        event: EventId,
        fingerprint: &Fingerprint,
        now: DateTime<Utc>,
        retention: TimeDelta,
    ) -> Option<Record> {
        let record = self.records.get(&(event, *fingerprint))?;
        (!record.is_expired(retention, now)).then(|| record.clone())
    }

    /// Adds a record, and evicts the oldest one if the cache is full.
    pub(super) fn keep(&self, event: EventId, fingerprint: Fingerprint, record: &Record) {
        let scan = (event, fingerprint);
        if self.records.insert(scan, record.clone()).is_some() {
            return;
        }
        // The lock of `order` is never held together with a lock of `records`.
        let oldest = {
            let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            order.push_back(scan);
            if order.len() > self.capacity { order.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            self.records.remove(&oldest);
        }
    }

    /// Removes all records.
    pub(super) fn clear(&self) {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.records.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::{Decision, Denial};
    use crate::ledger::SessionEffect;

    #[test]
    fn oldest_record_is_evicted_and_expired_record_is_not_found() {
        let cache = RecordCache::new(2);
        let now = DateTime::UNIX_EPOCH;
        let record = Record {
            decision: Decision::Denied(Denial::KeyNotFound),
            session: SessionEffect::Untouched,
            recorded_at: now,
        };
        let scans = [1, 2, 3].map(|number| (EventId::from_bytes([number; 16]), Fingerprint::from_bytes([number; 32])));
        for (event, fingerprint) in scans {
            cache.keep(event, fingerprint, &record);
            cache.keep(event, fingerprint, &record);
        }
        let (retention, past) = (TimeDelta::hours(24), now + TimeDelta::hours(25));
        let found = scans.map(|(event, fingerprint)| cache.find(event, &fingerprint, now, retention).is_some());
        assert_eq!((found, cache.len()), ([false, true, true], 2));
        let [.., (event, fingerprint)] = scans;
        assert!(cache.find(event, &fingerprint, past, retention).is_none());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
