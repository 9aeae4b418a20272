//! The used codes of a ledger in memory. A code is removed together with the record of the acceptance that used it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use super::rule::CodeUse;
use crate::digest::{Digest, Fingerprint};
use crate::domain::ids::EventId;

/// Identifies a record: its event, its fingerprint, and when it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordKey {
    pub(super) event: EventId,
    pub(super) fingerprint: Fingerprint,
    pub(super) recorded_at: DateTime<Utc>,
}

/// The codes and the acceptances that have used them. An event has at most one acceptance, and so at most one used
/// code.
#[derive(Debug, Default)]
pub(super) struct UsedCodes {
    by_code: HashMap<Digest, RecordKey>,
    by_event: HashMap<EventId, Digest>,
}

impl UsedCodes {
    /// The use of a code, which may have expired.
    pub(super) fn used_by(&self, code: &Digest) -> Option<CodeUse> {
        self.by_code
            .get(code)
            .map(|RecordKey { event, recorded_at, .. }| CodeUse { event: *event, recorded_at: *recorded_at })
    }

    /// Marks a code as used by an acceptance. An earlier use must belong to the same event, or have expired.
    pub(super) fn mark_used(&mut self, code: Digest, by: RecordKey) {
        if let Some(before) = self.by_code.insert(code, by) {
            self.by_event.remove(&before.event);
        }
        if let Some(before) = self.by_event.insert(by.event, code) {
            self.by_code.remove(&before);
        }
    }

    /// Frees the code that this acceptance has used, after its record has been removed.
    pub(super) fn free(&mut self, record: &RecordKey) {
        if let Some(code) = self.by_event.get(&record.event)
            && self.by_code.get(code) == Some(record)
        {
            self.by_code.remove(code);
            self.by_event.remove(&record.event);
        }
    }

    /// The number of used codes.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_code.len(), self.by_event.len());
        self.by_code.len()
    }
}
