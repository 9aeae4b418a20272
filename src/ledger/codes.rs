//! The used codes of a ledger in memory. A code is removed together with the record of the acceptance that used it.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

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
    /// Marks a code as used by an acceptance. Returns false, and changes nothing, if another event has used it.
    pub(super) fn mark_used(&mut self, code: Digest, by: RecordKey, retention: TimeDelta) -> bool {
        let is_used_by_another = |other: &RecordKey| {
            other.event != by.event && by.recorded_at.signed_duration_since(other.recorded_at) <= retention
        };
        if self.by_code.get(&code).is_some_and(is_used_by_another) {
            return false;
        }
        if let Some(before) = self.by_code.insert(code, by) {
            self.by_event.remove(&before.event);
        }
        if let Some(before) = self.by_event.insert(by.event, code) {
            self.by_code.remove(&before);
        }
        true
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
