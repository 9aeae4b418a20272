//! The records of one auth event, and the rules for a new one. PostgreSQL's `record_decisions` implements the same
//! rules in SQL, since several connectors may record at the same time. The same tests check both.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Lookup, MAX_REJECTIONS, Record};
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Grant};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Visitor;

/// At most one acceptance and at most [`MAX_REJECTIONS`] rejections, each with its fingerprint.
#[derive(Debug, Default)]
pub(super) struct EventRecords(Vec<(Fingerprint, Record)>);

/// Looks a fingerprint up among the records of an event. Expired records are ignored.
pub(super) fn find_record<'a>(
    records: impl Iterator<Item = (&'a Fingerprint, &'a Record)>,
    fingerprint: &Fingerprint,
    now: DateTime<Utc>,
    retention: TimeDelta,
) -> Lookup {
    let mut rejections = 0_usize;
    let mut accepted = false;
    for (of, record) in records.filter(|(_, record)| !record.is_expired(retention, now)) {
        if of == fingerprint {
            return Lookup::Recorded(record.clone());
        }
        match record.decision {
            Decision::Accepted(_) => accepted = true,
            Decision::Denied(_) => rejections = rejections.saturating_add(1),
        }
    }
    if accepted || rejections >= MAX_REJECTIONS { Lookup::Mismatch } else { Lookup::Unknown }
}

impl EventRecords {
    /// Looks a fingerprint up among these records. Expired records are ignored.
    pub(super) fn find(&self, fingerprint: &Fingerprint, now: DateTime<Utc>, retention: TimeDelta) -> Lookup {
        find_record(self.0.iter().map(|(of, record)| (of, record)), fingerprint, now, retention)
    }

    /// Adds a record. The caller has checked that the event may have another one.
    pub(super) fn push(&mut self, fingerprint: Fingerprint, record: Record) {
        self.0.push((fingerprint, record));
    }

    /// Removes the records for which `is_removed` is true, and returns their number.
    pub(super) fn remove(&mut self, is_removed: impl Fn(&Fingerprint, &Record) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|(fingerprint, record)| !is_removed(fingerprint, record));
        before.saturating_sub(self.0.len())
    }
}

impl Record {
    /// Replaces a visitor's id by a pseudonym, and removes everything else that could identify the visitor.
    pub(super) fn pseudonymize(&mut self, visitor: &VisitorId, pseudonym: &VisitorId) {
        if let Decision::Accepted(grant) = &mut self.decision
            && grant.visitor.id == *visitor
        {
            let visitor = Visitor { id: pseudonym.clone(), kind: grant.visitor.kind };
            *grant = Grant { visitor, device: None, payment_source: None };
        }
    }

    /// The age of the record.
    pub(super) fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        now.signed_duration_since(self.recorded_at)
    }

    /// Whether the record has expired.
    pub(super) fn is_expired(&self, retention: TimeDelta, now: DateTime<Utc>) -> bool {
        self.age(now) > retention
    }
}
