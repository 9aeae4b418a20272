//! The codes that are used up, for the ledger in memory: each lives and dies with the record of the acceptance that used it.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::digest::{Digest, Fingerprint};
use crate::domain::ids::EventId;

/// Of which event a record is, under which fingerprint, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) event: EventId,
    pub(super) fingerprint: Fingerprint,
    pub(super) recorded_at: DateTime<Utc>,
}

/// Which acceptance has used which code. An event has one acceptance, and so one code at most.
#[derive(Debug, Default)]
pub(super) struct UsedCodes {
    by_code: HashMap<Digest, Place>,
    by_event: HashMap<EventId, Digest>,
}

impl UsedCodes {
    /// Uses a code up for an acceptance, and says whether it was there to be used: not while another event has it.
    pub(super) fn use_up(&mut self, code: Digest, by: Place, retention: TimeDelta) -> bool {
        let has_it = |other: &Place| {
            other.event != by.event && by.recorded_at.signed_duration_since(other.recorded_at) <= retention
        };
        if self.by_code.get(&code).is_some_and(has_it) {
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

    /// Frees the code that the acceptance at this place has used, when its record has gone.
    pub(super) fn free(&mut self, place: &Place) {
        if let Some(code) = self.by_event.get(&place.event)
            && self.by_code.get(code) == Some(place)
        {
            self.by_code.remove(code);
            self.by_event.remove(&place.event);
        }
    }

    /// How many codes are used up.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_code.len(), self.by_event.len());
        self.by_code.len()
    }
}
