//! A cache of records in front of a database. Records never change, so a cached record is never outdated. When the
//! cache is full, the oldest record is evicted.

use chrono::{DateTime, TimeDelta, Utc};

use super::Record;
use crate::cache::{Cache, keeping_newest};
use crate::digest::Fingerprint;
use crate::domain::ids::EventId;

/// A bounded number of records by event and fingerprint.
#[derive(Debug)]
pub(super) struct RecordCache(Cache<(EventId, Fingerprint), Record>);

impl RecordCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self(keeping_newest(capacity))
    }

    /// The record of this scan, if it is cached and has not expired.
    pub(super) fn find(
        &self,
        event: EventId,
        fingerprint: &Fingerprint,
        now: DateTime<Utc>,
        retention: TimeDelta,
    ) -> Option<Record> {
        self.0.get(&(event, *fingerprint)).filter(|record| !record.is_expired(retention, now))
    }

    pub(super) fn keep(&self, event: EventId, fingerprint: Fingerprint, record: &Record) {
        self.0.insert((event, fingerprint), record.clone());
    }

    /// Removes all records.
    pub(super) fn clear(&self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::{Decision, Denial, Grant};
    use crate::domain::ids::{DeviceId, PaymentSourceId, VisitorId};
    use crate::domain::visitor::{Visitor, VisitorType};
    use crate::ledger::{RecordId, SessionEffect};

    fn scan(number: u32) -> (EventId, Fingerprint) {
        let (mut event, mut fingerprint) = ([0; 16], [0; 32]);
        event[..4].copy_from_slice(&number.to_be_bytes());
        fingerprint[..4].copy_from_slice(&number.to_be_bytes());
        (EventId::from_bytes(event), Fingerprint::from_bytes(fingerprint))
    }

    #[test]
    fn expired_record_is_not_found() {
        let cache = RecordCache::new(2);
        let now = DateTime::UNIX_EPOCH;
        let record = Record {
            decision: Decision::refuse_unknown(Denial::KeyNotFound),
            session: SessionEffect::Untouched,
            recorded_at: now,
        };
        let (event, fingerprint) = scan(1);
        cache.keep(event, fingerprint, &record);
        let (retention, past) = (TimeDelta::hours(24), now + TimeDelta::hours(25));
        assert!(cache.find(event, &fingerprint, now, retention).is_some());
        assert!(cache.find(event, &fingerprint, past, retention).is_none());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn record_takes_about_the_memory_that_the_settings_reference_states() {
        const NUMBER: u32 = 100_000;
        let cache = RecordCache::new(100_000);
        for number in 0..2 * NUMBER {
            let id = format!("{number:036}"); // as long as a UUID
            let visitor = Visitor { id: VisitorId::parse(&id).expect("an id"), kind: VisitorType::Shopper };
            let device = Some(DeviceId::parse(&id).expect("an id"));
            let payment_source = Some(PaymentSourceId::parse(&id).expect("an id"));
            let record = Record {
                decision: Decision::Accepted(Grant { visitor, device, payment_source }),
                session: SessionEffect::Opened(RecordId(1)),
                recorded_at: DateTime::UNIX_EPOCH,
            };
            let (event, fingerprint) = scan(number);
            cache.keep(event, fingerprint, &record);
        }
        let ids = 3 * (36 + 2 * size_of::<usize>()); // text and the two counters of an Arc
        let each = cache.0.memory_used().total() / cache.len() + ids;
        assert!((200..500).contains(&each), "{each} bytes");
    }
}
