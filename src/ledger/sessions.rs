//! Sessions: which visitors are in a store. An accepted entry opens a session, and an accepted exit closes one. A session
//! is not stored: it follows from the records of its entry and its exit, and is kept for as long as its entry's.

use chrono::{DateTime, TimeDelta, Utc};

use super::RecordId;
use crate::domain::decision::Grant;
use crate::domain::ids::{DeviceId, EventId, StoreId};
use crate::domain::scan::AuthEvent;
use crate::domain::visitor::Visitor;

/// A visit to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The id of the entry's record.
    pub id: RecordId,
    /// The visitor. Its type shows whether it is an associate or a shopper.
    pub visitor: Visitor,
    pub store_id: StoreId,
    /// The device, if it was identified.
    pub device: Option<DeviceId>,
    /// The entry that opened it.
    pub entry: Moment,
    /// The exit that closed it.
    pub exit: Option<Moment>,
    /// When it timed out, if it was open for too long.
    pub timed_out_at: Option<DateTime<Utc>>,
}

impl Session {
    /// The session of an entry. Without an exit, it times out when it has been open for `max_age`.
    pub(super) fn new(
        id: RecordId,
        grant: &Grant,
        store_id: StoreId,
        entry: Moment,
        exit: Option<Moment>,
        now: DateTime<Utc>,
        max_age: TimeDelta,
    ) -> Self {
        let ends_at = entry.recorded_at.checked_add_signed(max_age);
        let timed_out_at = ends_at.filter(|ends_at| exit.is_none() && *ends_at < now);
        let Grant { visitor, device, .. } = grant.clone();
        Self { id, visitor, store_id, device, entry, exit, timed_out_at }
    }

    /// Whether the session is open, closed, or timed out.
    pub fn state(&self) -> SessionState {
        match (&self.exit, self.timed_out_at) {
            (Some(_), _) => SessionState::Closed,
            (None, Some(_)) => SessionState::TimedOut,
            (None, None) => SessionState::Open,
        }
    }
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// The visitor is in the store.
    Open,
    /// The visitor left through an exit gate.
    Closed,
    /// No exit was recorded in time.
    TimedOut,
}

/// The entry or the exit of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub event_id: EventId,
    /// When the gate was used, by the gate's clock.
    pub timestamp: DateTime<Utc>,
    /// When it was recorded, by the connector's clock.
    pub recorded_at: DateTime<Utc>,
}

impl Moment {
    pub(super) fn new(event: &AuthEvent, recorded_at: DateTime<Utc>) -> Self {
        Self { event_id: event.id, timestamp: event.timestamp, recorded_at }
    }
}
