//! The records of one auth event, and the rules by which they stand beside one another. Where several connectors record at once, PostgreSQL's
//! `record_decisions` says the same in its own language; one suite holds both to it.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Lookup, MAX_REJECTIONS, Record};
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Grant};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Visitor;

/// At most one acceptance and [`MAX_REJECTIONS`] rejections, each under its fingerprint.
#[derive(Debug, Default)]
pub(super) struct EventRecords(Vec<(Fingerprint, Record)>);

/// What the records of an event say of a scan with this fingerprint. A record past its retention says nothing.
pub(super) fn what_stands<'a>(
    records: impl Iterator<Item = (&'a Fingerprint, &'a Record)>,
    fingerprint: &Fingerprint,
    now: DateTime<Utc>,
    retention: TimeDelta,
) -> Lookup {
    let mut rejections = 0_usize;
    let mut accepted = false;
    for (of, record) in records.filter(|(_, record)| !record.is_past(retention, now)) {
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
    /// What they say of a scan with this fingerprint.
    pub(super) fn find(&self, fingerprint: &Fingerprint, now: DateTime<Utc>, retention: TimeDelta) -> Lookup {
        what_stands(self.0.iter().map(|(of, record)| (of, record)), fingerprint, now, retention)
    }

    /// Puts a record beside the others; the caller has found that there is room.
    pub(super) fn push(&mut self, fingerprint: Fingerprint, record: Record) {
        self.0.push((fingerprint, record));
    }

    /// Drops the records of which `gone` says so and returns how many they were.
    pub(super) fn remove(&mut self, gone: impl Fn(&Fingerprint, &Record) -> bool) -> usize {
        let before = self.0.len();
        self.0.retain(|(fingerprint, record)| !gone(fingerprint, record));
        before.saturating_sub(self.0.len())
    }
}

impl Record {
    /// Puts a pseudonym in a visitor's place, and drops what else could tell who it was.
    pub(super) fn rename(&mut self, visitor: &VisitorId, pseudonym: &VisitorId) {
        if let Decision::Accepted(grant) = &mut self.decision
            && grant.visitor.id == *visitor
        {
            let visitor = Visitor { id: pseudonym.clone(), kind: grant.visitor.kind };
            *grant = Grant { visitor, device: None, payment_source: None };
        }
    }

    /// How old the record is.
    pub(super) fn age(&self, now: DateTime<Utc>) -> TimeDelta {
        now.signed_duration_since(self.recorded_at)
    }

    /// Whether it has been kept as long as was promised.
    pub(super) fn is_past(&self, retention: TimeDelta, now: DateTime<Utc>) -> bool {
        self.age(now) > retention
    }
}
