//! Who is in the store: sessions open with an accepted entry and close with an accepted exit.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::decision::Grant;
use crate::domain::ids::{DeviceId, EventId, StoreId, VisitorId};
use crate::domain::scan::AuthEvent;
use crate::domain::visitor::Visitor;

/// A session's number: later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// A visit to a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its number.
    pub id: SessionId,
    /// Who: associates are told apart by their type.
    pub visitor: Visitor,
    /// Where.
    pub store_id: StoreId,
    /// With which device, if it was identified.
    pub device: Option<DeviceId>,
    /// The entry that opened it.
    pub entry: Moment,
    /// The exit that closed it.
    pub exit: Option<Moment>,
    /// When it was closed for being open too long.
    pub timed_out_at: Option<DateTime<Utc>>,
}

impl Session {
    /// Whether it is open, closed, or was closed for its age.
    #[must_use]
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
    /// They left through an exit gate.
    Closed,
    /// Nobody saw them leave.
    TimedOut,
}

/// One end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The auth event.
    pub event_id: EventId,
    /// When it happened, by the gate's clock.
    pub timestamp: DateTime<Utc>,
    /// When it was recorded, by ours.
    pub recorded_at: DateTime<Utc>,
}

impl Moment {
    fn of(event: &AuthEvent, recorded_at: DateTime<Utc>) -> Self {
        Self { event_id: event.id, timestamp: event.timestamp, recorded_at }
    }
}

/// A page of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The newest first.
    pub sessions: Vec<Session>,
    /// Where the next page begins, when there is one.
    pub next: Option<SessionId>,
}

/// All sessions of a ledger in memory. Bounded: the longest ended go first, then the oldest.
#[derive(Debug)]
pub(super) struct Sessions {
    max_age: TimeDelta,
    capacity: usize,
    last: u64,
    /// Each by itself: a tree of so large values would be half empty.
    by_id: BTreeMap<SessionId, Box<Session>>,
    /// Open sessions of a visitor at a store, the oldest first.
    open: HashMap<(VisitorId, StoreId), VecDeque<SessionId>>,
    /// All open sessions, the oldest first.
    by_age: BTreeSet<SessionId>,
    /// Ended sessions, the longest ended first.
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

    /// An accepted entry opens a session, whatever is open: a shopper may bring guests.
    pub(super) fn open(
        &mut self,
        event: &AuthEvent,
        store_id: StoreId,
        grant: &Grant,
        now: DateTime<Utc>,
    ) -> SessionId {
        self.make_room();
        self.last = self.last.saturating_add(1);
        let id = SessionId(self.last);
        self.open.entry((grant.visitor.id.clone(), store_id.clone())).or_default().push_back(id);
        self.by_age.insert(id);
        let session = Session {
            id,
            visitor: grant.visitor.clone(),
            store_id,
            device: grant.device.clone(),
            entry: Moment::of(event, now),
            exit: None,
            timed_out_at: None,
        };
        self.by_id.insert(id, Box::new(session));
        id
    }

    /// An accepted exit closes the oldest open session of that visitor at that store, if there is one.
    pub(super) fn close(
        &mut self,
        event: &AuthEvent,
        store_id: &StoreId,
        visitor: &VisitorId,
        now: DateTime<Utc>,
    ) -> Option<SessionId> {
        self.time_out(now);
        let id = *self.open.get(&(visitor.clone(), store_id.clone()))?.front()?;
        self.by_id.get_mut(&id)?.exit = Some(Moment::of(event, now));
        self.end(id);
        Some(id)
    }

    /// Closes what has been open for longer than `max_age`.
    pub(super) fn time_out(&mut self, now: DateTime<Utc>) {
        while self.time_out_oldest(now) {}
    }

    /// Closes the oldest open session if it has been open for too long, and says whether it has.
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

    /// Forgets the longest ended session if it ended longer than `retention` ago, and says whether it did.
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

    /// Puts a pseudonym in a visitor's place, and drops their devices.
    pub(super) fn rename(&mut self, visitor: &VisitorId, pseudonym: &VisitorId) {
        for session in self.by_id.values_mut().filter(|session| session.visitor.id == *visitor) {
            session.visitor.id = pseudonym.clone();
            session.device = None;
            let open = (visitor.clone(), session.store_id.clone());
            if let Some(ids) = self.open.remove(&open) {
                self.open.insert((pseudonym.clone(), session.store_id.clone()), ids);
            }
        }
    }

    /// Takes a session out of those that are open. Whatever ends is the oldest of its visitor at its store.
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

    /// At capacity, the longest ended session goes; when none has ended, the oldest.
    fn make_room(&mut self) {
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
    fn at_capacity_the_longest_ended_goes_first_and_then_the_oldest() {
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
