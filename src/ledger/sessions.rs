//! Sessions: which visitors are in a store. An accepted entry opens a session, and an accepted exit closes one.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::decision::Grant;
use crate::domain::ids::{DeviceId, EventId, StoreId, VisitorId};
use crate::domain::scan::AuthEvent;
use crate::domain::visitor::Visitor;

/// The number of a session. Later sessions have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A visit to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The session's number.
    pub id: SessionId,
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
    /// Whether the session is open, closed, or timed out.
    pub fn state(&self) -> SessionState {
        match (&self.exit, self.timed_out_at) {
            (Some(_), _) => SessionState::Closed,
            (None, Some(_)) => SessionState::TimedOut,
            (None, None) => SessionState::Open,
        }
    }

    fn ended_at(&self) -> Option<DateTime<Utc>> {
        self.exit.as_ref().map(|exit| exit.recorded_at).or(self.timed_out_at)
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
    fn new(event: &AuthEvent, recorded_at: DateTime<Utc>) -> Self {
        Self { event_id: event.id, timestamp: event.timestamp, recorded_at }
    }
}

/// A page of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The sessions, newest first.
    pub sessions: Vec<Session>,
    /// The position of the next page, if there is one.
    pub next: Option<SessionId>,
}

/// All sessions of a ledger in memory, bounded. When it is full, the session that ended first is removed, or the oldest
/// if none has ended.
#[derive(Debug)]
pub(super) struct Sessions {
    max_age: TimeDelta,
    capacity: usize,
    last: u64,
    /// Boxed, since a tree of such large values would waste half of its memory.
    by_id: BTreeMap<SessionId, Box<Session>>,
    /// The open sessions of each visitor at each store, oldest first.
    open: HashMap<(VisitorId, StoreId), VecDeque<SessionId>>,
    /// All open sessions, oldest first.
    by_age: BTreeSet<SessionId>,
    /// The ended sessions, in the order in which they ended.
    ended: VecDeque<SessionId>,
}

impl Sessions {
    pub(super) fn new(max_age: TimeDelta, capacity: usize) -> Self {
        Self {
            max_age,
            capacity,
            last: 0,
            by_id: BTreeMap::new(),
            open: HashMap::new(),
            by_age: BTreeSet::new(),
            ended: VecDeque::new(),
        }
    }

    /// Opens a session for an accepted entry, even if the visitor has an open one: a shopper may bring guests.
    pub(super) fn open(
        &mut self,
        event: &AuthEvent,
        store_id: StoreId,
        grant: &Grant,
        now: DateTime<Utc>,
    ) -> SessionId {
        self.evict_to_capacity();
        self.last = self.last.saturating_add(1);
        let id = SessionId(self.last);
        self.open.entry((grant.visitor.id.clone(), store_id.clone())).or_default().push_back(id);
        self.by_age.insert(id);
        let session = Session {
            id,
            visitor: grant.visitor.clone(),
            store_id,
            device: grant.device.clone(),
            entry: Moment::new(event, now),
            exit: None,
            timed_out_at: None,
        };
        self.by_id.insert(id, Box::new(session));
        id
    }

    /// Closes the oldest open session of this visitor at this store for an accepted exit. Returns `None` if there is
    /// none.
    pub(super) fn close(
        &mut self,
        event: &AuthEvent,
        store_id: &StoreId,
        visitor: &VisitorId,
        now: DateTime<Utc>,
    ) -> Option<SessionId> {
        self.time_out(now);
        let id = *self.open.get(&(visitor.clone(), store_id.clone()))?.front()?;
        self.by_id.get_mut(&id)?.exit = Some(Moment::new(event, now));
        self.end(id);
        Some(id)
    }

    /// Times out all sessions that have been open for longer than `max_age`.
    pub(super) fn time_out(&mut self, now: DateTime<Utc>) {
        while self.time_out_oldest(now) {}
    }

    /// Times out the oldest open session if it has been open for too long. Returns true if a session timed out.
    pub(super) fn time_out_oldest(&mut self, now: DateTime<Utc>) -> bool {
        let Some(id) = self.by_age.first().copied() else { return false };
        if let Some(session) = self.by_id.get_mut(&id) {
            let opened_at = session.entry.recorded_at;
            if now.signed_duration_since(opened_at) <= self.max_age {
                return false;
            }
            session.timed_out_at = opened_at.checked_add_signed(self.max_age);
        }
        self.end(id);
        true
    }

    /// Removes the session that ended first if it ended longer than `retention` ago. Returns true if a session was
    /// removed.
    pub(super) fn forget_oldest(&mut self, retention: TimeDelta, now: DateTime<Utc>) -> bool {
        let Some(id) = self.ended.front().copied() else { return false };
        let ended_at = self.by_id.get(&id).and_then(|session| session.ended_at());
        if ended_at.is_some_and(|at| now.signed_duration_since(at) <= retention) {
            return false;
        }
        self.ended.pop_front();
        self.by_id.remove(&id);
        true
    }

    pub(super) fn page(&self, before: Option<SessionId>, limit: usize) -> Page {
        let range = match before {
            Some(before) => self.by_id.range(..before),
            None => self.by_id.range(..),
        };
        let mut rest = range.rev().map(|(_, session)| &**session);
        let sessions: Vec<Session> = rest.by_ref().take(limit).cloned().collect();
        let next = rest.next().and(sessions.last()).map(|session| session.id);
        Page { sessions, next }
    }

    /// Replaces a visitor's id by a pseudonym, and removes their devices.
    pub(super) fn pseudonymize(&mut self, visitor: &VisitorId, pseudonym: &VisitorId) {
        for session in self.by_id.values_mut().filter(|session| session.visitor.id == *visitor) {
            session.visitor.id = pseudonym.clone();
            session.device = None;
            let open = (visitor.clone(), session.store_id.clone());
            if let Some(ids) = self.open.remove(&open) {
                self.open.insert((pseudonym.clone(), session.store_id.clone()), ids);
            }
        }
    }

    /// Moves a session from the open to the ended ones. It is always the oldest open session of its visitor at its
    /// store.
    fn end(&mut self, id: SessionId) {
        self.by_age.remove(&id);
        self.ended.push_back(id);
        let Some(session) = self.by_id.get(&id) else { return };
        let key = (session.visitor.id.clone(), session.store_id.clone());
        if let Some(open) = self.open.get_mut(&key) {
            open.pop_front_if(|oldest| *oldest == id);
            if open.is_empty() {
                self.open.remove(&key);
            }
        }
    }

    /// If the ledger is full, removes the session that ended first, or the oldest one if none has ended.
    fn evict_to_capacity(&mut self) {
        while self.by_id.len() >= self.capacity {
            if self.ended.is_empty()
                && let Some(oldest) = self.by_age.first().copied()
            {
                self.end(oldest);
            }
            let Some(id) = self.ended.pop_front() else { return };
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::scan::Location;
    use crate::domain::visitor::VisitorType;

    fn grant(visitor: &str) -> Grant {
        let visitor = Visitor { id: VisitorId::parse(visitor).expect("an id"), kind: VisitorType::Shopper };
        Grant { visitor, device: None, payment_source: None }
    }

    #[test]
    fn full_ledger_evicts_the_session_that_ended_first_and_then_the_oldest() {
        let now = DateTime::UNIX_EPOCH;
        let store = StoreId::parse("S").expect("an id");
        let id = EventId::parse("11111111-2222-3333-4444-555555555555").expect("a UUID");
        let event = AuthEvent { id, timestamp: now, location: Location::Entry };
        let mut sessions = Sessions::new(TimeDelta::hours(24), 3);
        let enter = |sessions: &mut Sessions, visitor| sessions.open(&event, store.clone(), &grant(visitor), now);
        let [a, b, c] = ["a", "b", "c"].map(|visitor| enter(&mut sessions, visitor));
        let leave = |sessions: &mut Sessions, visitor: &str| {
            sessions.close(&event, &store, &VisitorId::parse(visitor).expect("an id"), now)
        };
        assert_eq!([leave(&mut sessions, "b"), leave(&mut sessions, "c")], [Some(b), Some(c)]);
        let d = enter(&mut sessions, "d");
        let ids = |sessions: &Sessions| sessions.page(None, 10).sessions.iter().map(|s| s.id).collect::<Vec<_>>();
        assert_eq!(ids(&sessions), [d, c, a], "b had ended before c");
        let e = enter(&mut sessions, "e");
        assert_eq!(ids(&sessions), [e, d, a]);
        let f = enter(&mut sessions, "f");
        assert_eq!(ids(&sessions), [f, e, d], "none had ended, and a was the oldest");
        assert_eq!(leave(&mut sessions, "a"), None);
    }
}
