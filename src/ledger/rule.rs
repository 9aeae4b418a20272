//! What recording a decision does, given what the ledger has already: a pure function without engine or clock. It is
//! the only copy of the rule. In PostgreSQL, where several connectors may record at the same time, it is applied again
//! if something else was recorded meanwhile.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Lookup, MAX_REJECTIONS, NewRecord, Record};
use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::{Decision, Denial, Grant, Known};
use crate::domain::ids::{EventId, VisitorId};
use crate::domain::scan::Location;
use crate::domain::visitor::Visitor;

/// What an engine has to do for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'e> {
    /// Nothing: the scan has this record already.
    Replay(Record),
    /// Nothing: the event cannot be decided with these parameters.
    Mismatch,
    /// Add a record.
    New {
        /// The decision to record, which may differ from the one that was asked for.
        decision: Decision,
        /// What happens to the visitor's sessions.
        session: SessionStep<'e>,
        /// The Scan Key Code to mark as used by this event.
        uses: Option<Digest>,
    },
}

impl Outcome<'_> {
    /// A new rejection, which changes no session and uses no code.
    fn rejection(decision: Decision) -> Self {
        Self::New { decision, session: SessionStep::None, uses: None }
    }
}

/// What a new record does to its visitor's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionStep<'e> {
    /// Nothing.
    None,
    /// Opens a session, even if the visitor has an open one: a shopper may bring guests.
    Open(&'e VisitorId),
    /// Closes the oldest open session of this visitor at the store, if there is one.
    CloseOldest(&'e VisitorId),
}

/// The acceptance that has used a Scan Key Code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodeUse {
    pub(super) event: EventId,
    pub(super) recorded_at: DateTime<Utc>,
}

/// What recording `entry` does at `now`. `records` are those of its event, and `used` is the use of its code, if there
/// is one. Both may have expired: what is older than `retention` counts as removed.
pub(super) fn apply<'e, 'a>(
    entry: &'e NewRecord,
    records: impl Iterator<Item = (&'a Fingerprint, &'a Record)>,
    used: Option<CodeUse>,
    now: DateTime<Utc>,
    retention: TimeDelta,
) -> Outcome<'e> {
    match find(records, &entry.fingerprint, now, retention) {
        Lookup::Recorded(record) => return Outcome::Replay(record),
        Lookup::Mismatch => return Outcome::Mismatch,
        Lookup::Unknown => {}
    }
    let is_used = |by: CodeUse| by.event != entry.scan.event.id && !is_expired(by.recorded_at, retention, now);
    let grant = match &entry.decision {
        Decision::Denied { .. } => return Outcome::rejection(entry.decision.clone()),
        Decision::Accepted(Grant { visitor, device, .. }) if used.is_some_and(is_used) => {
            let known = Some(Known { visitor: visitor.clone(), device: device.clone() });
            return Outcome::rejection(Decision::Denied { reason: Denial::KeyAlreadyUsed, known });
        }
        Decision::Accepted(grant) => grant,
    };
    let session = match entry.scan.event.location {
        Location::Entry => SessionStep::Open(&grant.visitor.id),
        Location::Exit => SessionStep::CloseOldest(&grant.visitor.id),
    };
    Outcome::New { decision: entry.decision.clone(), session, uses: entry.code }
}

/// Looks a fingerprint up among the records of an event.
pub(super) fn find<'a>(
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
            Decision::Denied { .. } => rejections = rejections.saturating_add(1),
        }
    }
    if accepted || rejections >= MAX_REJECTIONS { Lookup::Mismatch } else { Lookup::Unknown }
}

/// Whether what was recorded at this time counts as removed.
fn is_expired(recorded_at: DateTime<Utc>, retention: TimeDelta, now: DateTime<Utc>) -> bool {
    now.signed_duration_since(recorded_at) > retention
}

impl Record {
    /// Replaces a visitor's id by a pseudonym, and removes everything else that could identify the visitor.
    pub(super) fn pseudonymize(&mut self, visitor: &VisitorId, pseudonym: &VisitorId) {
        let erased = |kind| Visitor { id: pseudonym.clone(), kind };
        match &mut self.decision {
            Decision::Accepted(grant) if grant.visitor.id == *visitor => {
                *grant = Grant { visitor: erased(grant.visitor.kind), device: None, payment_source: None };
            }
            Decision::Denied { known: Some(known), .. } if known.visitor.id == *visitor => {
                *known = Known { visitor: erased(known.visitor.kind), device: None };
            }
            Decision::Accepted(_) | Decision::Denied { .. } => {}
        }
    }

    /// Whether the record counts as removed.
    pub(super) fn is_expired(&self, retention: TimeDelta, now: DateTime<Utc>) -> bool {
        is_expired(self.recorded_at, retention, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::StoreId;
    use crate::domain::scan::{AuthEvent, ScanDetails};
    use crate::domain::visitor::VisitorType;
    use crate::ledger::SessionEffect;

    const RETENTION: TimeDelta = TimeDelta::hours(24);
    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn event(number: u8) -> EventId {
        EventId::from_bytes([number; 16])
    }

    fn fingerprint(number: u8) -> Fingerprint {
        Fingerprint::from_bytes([number; 32])
    }

    fn accepted() -> Decision {
        let visitor = Visitor { id: VisitorId::parse("v").expect("an id"), kind: VisitorType::Shopper };
        Decision::Accepted(Grant { visitor, device: None, payment_source: None })
    }

    fn denied() -> Decision {
        Decision::refuse_unknown(Denial::KeyNotFound)
    }

    /// An entry for event 1 with this fingerprint.
    fn entry(number: u8, location: Location, decision: Decision, code: Option<Digest>) -> NewRecord {
        NewRecord {
            scan: ScanDetails {
                event: AuthEvent { id: event(1), timestamp: NOW, location },
                store_id: StoreId::parse("S").expect("an id"),
                channel: None,
                caller: None,
            },
            fingerprint: fingerprint(number),
            decision,
            code,
        }
    }

    /// A time that lies `age` before now.
    fn before(age: TimeDelta) -> DateTime<Utc> {
        NOW.checked_sub_signed(age).expect("in range")
    }

    /// A record of this age.
    fn record(decision: Decision, age: TimeDelta) -> Record {
        Record { decision, session: SessionEffect::Untouched, recorded_at: before(age) }
    }

    fn outcome<'e>(entry: &'e NewRecord, records: &[(Fingerprint, Record)], used: Option<CodeUse>) -> Outcome<'e> {
        apply(entry, records.iter().map(|(of, record)| (of, record)), used, NOW, RETENTION)
    }

    proptest! {
        /// Whatever is recorded for an event: the first record of a fingerprint answers all later scans with it, and
        /// there is at most one acceptance and eight rejections.
        #[test]
        fn first_record_wins(scans in prop::collection::vec((0..12_u8, any::<bool>(), any::<bool>()), 0..40)) {
            let mut records: Vec<(Fingerprint, Record)> = Vec::new();
            for (number, accepts, enters) in scans {
                let location = if enters { Location::Entry } else { Location::Exit };
                let entry = entry(number, location, if accepts { accepted() } else { denied() }, None);
                let first = records.iter().find(|(of, _)| *of == entry.fingerprint).map(|(_, record)| record.clone());
                match outcome(&entry, &records, None) {
                    Outcome::Replay(record) => prop_assert_eq!(Some(record), first),
                    Outcome::Mismatch => prop_assert_eq!(None, first),
                    Outcome::New { decision, .. } => {
                        prop_assert_eq!(None, first);
                        prop_assert_eq!(&decision, &entry.decision);
                        records.push((entry.fingerprint, record(decision, TimeDelta::zero())));
                    }
                }
            }
            let is_accepted = |(_, record): &&(_, Record)| matches!(record.decision, Decision::Accepted(_));
            let (accepted, denied): (Vec<_>, Vec<_>) = records.iter().partition(is_accepted);
            prop_assert!(accepted.len() <= 1 && denied.len() <= MAX_REJECTIONS);
        }
    }
}
