//! The records of a ledger in memory: a queue in the order of recording. Records are added at one end and removed at the
//! other.
//!
//! A record points to the previous one of its event. An accepted entry is also its session: the open sessions of a
//! visitor at a store form a list, oldest first, in which each points to the next.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;

use chrono::{DateTime, TimeDelta, Utc};

use super::rule::{CodeUse, SessionStep};
use super::{DecisionEntry, Moment, Record, RecordId, Session, SessionEffect};
use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::Decision;
use crate::domain::ids::{StoreId, VisitorId};
use crate::domain::scan::{Location, ScanDetails};

/// The number of a record. Later records have greater numbers.
pub(super) type Number = NonZeroU64;

/// A record, with its links to other records.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) scan: ScanDetails,
    pub(super) fingerprint: Fingerprint,
    pub(super) record: Record,
    /// The Scan Key Code that the acceptance has used.
    pub(super) code: Option<Box<Digest>>,
    /// The previous record of the same event, if there was one. It may have been removed since.
    pub(super) before: Option<Number>,
    /// The exit that has closed the session of this entry.
    pub(super) closed_by: Option<Number>,
    /// The next open session of the same visitor at the same store.
    pub(super) next_open: Option<Number>,
}

impl StoredRecord {
    /// The visitor of the session that this record has opened, if it is an accepted entry.
    fn enters(&self) -> Option<&VisitorId> {
        match &self.record.decision {
            Decision::Accepted(grant) if self.scan.event.location == Location::Entry => Some(&grant.visitor.id),
            _ => None,
        }
    }

    fn moment(&self) -> Moment {
        Moment::new(&self.scan.event, self.record.recorded_at)
    }
}

/// The open sessions of a visitor at a store.
#[derive(Debug)]
struct OpenSessions {
    oldest: Number,
    newest: Number,
}

/// The number of records in a block.
const BLOCK: u64 = 1024;

/// All records, in blocks, so that adding one never moves the others, and little memory is allocated in advance.
#[derive(Debug)]
pub(super) struct Records {
    /// The number of the oldest record, or of the next one while there is none.
    first: Number,
    next: Number,
    /// Each block holds the records with the same quotient of number and [`BLOCK`].
    blocks: VecDeque<VecDeque<StoredRecord>>,
    /// The sessions that no exit has closed. Some may have timed out.
    open: HashMap<(VisitorId, StoreId), OpenSessions>,
    /// The used codes, and the acceptances that have used them.
    codes: HashMap<Digest, Number>,
}

impl Records {
    pub(super) fn new() -> Self {
        let (open, codes) = (HashMap::new(), HashMap::new());
        Self { first: Number::MIN, next: Number::MIN, blocks: VecDeque::new(), open, codes }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.next.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX)
    }

    /// Adds the newest record, marks its code as used, and opens or closes a session. Sessions that have been open for
    /// longer than `max_age` are not closed. Returns the record and its number.
    pub(super) fn add(
        &mut self,
        mut stored: StoredRecord,
        step: SessionStep<'_>,
        max_age: TimeDelta,
    ) -> (Number, Record) {
        let (number, store) = (self.next, &stored.scan.store_id);
        stored.record.session = match step {
            SessionStep::None => SessionEffect::Untouched,
            SessionStep::Open(visitor) => {
                self.open_session((visitor.clone(), store.clone()), number);
                SessionEffect::Opened(id(number))
            }
            SessionStep::CloseOldest(visitor) => {
                let now = stored.record.recorded_at;
                let closed = self.close_oldest(&(visitor.clone(), store.clone()), number, now, max_age);
                closed.map_or(SessionEffect::NoneOpen, |closed| SessionEffect::Closed(id(closed)))
            }
        };
        if let Some(code) = stored.code.as_deref() {
            self.codes.insert(*code, number);
        }
        let record = stored.record.clone();
        self.push(stored);
        (number, record)
    }

    fn push(&mut self, stored: StoredRecord) {
        let number = self.next;
        self.next = number.saturating_add(1);
        match self.blocks.back_mut() {
            Some(newest) if !number.get().is_multiple_of(BLOCK) => newest.push_back(stored),
            _ => {
                let mut block = VecDeque::with_capacity(usize::try_from(BLOCK).unwrap_or_default());
                block.push_back(stored);
                self.blocks.push_back(block);
            }
        }
    }

    fn open_session(&mut self, whose: (VisitorId, StoreId), number: Number) {
        match self.open.entry(whose) {
            Entry::Vacant(none) => {
                none.insert(OpenSessions { oldest: number, newest: number });
            }
            Entry::Occupied(mut open) => {
                let before = std::mem::replace(&mut open.get_mut().newest, number);
                if let Some(before) = self.get_mut(before) {
                    before.next_open = Some(number);
                }
            }
        }
    }

    /// Closes the oldest open session of a visitor at a store. Returns `None` if there is none.
    fn close_oldest(
        &mut self,
        whose: &(VisitorId, StoreId),
        by: Number,
        now: DateTime<Utc>,
        max_age: TimeDelta,
    ) -> Option<Number> {
        loop {
            let oldest = self.open.get(whose)?.oldest;
            let entry = self.get_mut(oldest);
            let is_open = entry.is_some_and(|entry| {
                let is_open = now.signed_duration_since(entry.record.recorded_at) <= max_age;
                entry.closed_by = is_open.then_some(by);
                is_open
            });
            let next = self.get(oldest).and_then(|entry| entry.next_open);
            self.remove_oldest_open(whose, next);
            if is_open {
                return Some(oldest);
            }
        }
    }

    /// Removes the oldest session from the list of open ones; `next` is the one after it.
    fn remove_oldest_open(&mut self, whose: &(VisitorId, StoreId), next: Option<Number>) {
        match (next, self.open.get_mut(whose)) {
            (Some(next), Some(open)) => open.oldest = next,
            _ => drop(self.open.remove(whose)),
        }
    }

    pub(super) fn oldest(&self) -> Option<&StoredRecord> {
        self.blocks.front()?.front()
    }

    /// Removes the oldest record, with its session and its code.
    pub(super) fn pop(&mut self) -> Option<(Number, StoredRecord)> {
        let oldest = self.blocks.front_mut()?;
        let stored = oldest.pop_front()?;
        if oldest.is_empty() {
            self.blocks.pop_front();
        }
        let number = self.first;
        self.first = number.saturating_add(1);
        if let Some(visitor) = stored.enters() {
            let whose = (visitor.clone(), stored.scan.store_id.clone());
            // Its list may begin with an even older record, which was removed while the visitor was erased.
            if self.open.get(&whose).is_some_and(|open| open.oldest <= number) {
                self.remove_oldest_open(&whose, stored.next_open);
            }
        }
        if let Some(code) = stored.code.as_deref()
            && self.codes.get(code) == Some(&number)
        {
            self.codes.remove(code);
        }
        Some((number, stored))
    }

    /// The use of a code, which may have expired.
    pub(super) fn code_use(&self, code: &Digest) -> Option<CodeUse> {
        let by = self.get(*self.codes.get(code)?)?;
        Some(CodeUse { event: by.scan.event.id, recorded_at: by.record.recorded_at })
    }

    /// The records of one event, newest first, given the number of its newest record.
    pub(super) fn records_of(&self, newest: Option<Number>) -> impl Iterator<Item = (&Fingerprint, &Record)> {
        let all = std::iter::successors(newest.and_then(|number| self.get(number)), |stored| self.get(stored.before?));
        all.map(|stored| (&stored.fingerprint, &stored.record))
    }

    fn get(&self, number: Number) -> Option<&StoredRecord> {
        let (block, index) = self.position_of(number)?;
        self.blocks.get(block)?.get(index)
    }

    fn get_mut(&mut self, number: Number) -> Option<&mut StoredRecord> {
        let (block, index) = self.position_of(number)?;
        self.blocks.get_mut(block)?.get_mut(index)
    }

    /// The block of a record, and its index in there.
    fn position_of(&self, number: Number) -> Option<(usize, usize)> {
        // Some records of the oldest block may have been removed.
        let first = self.first.get().max(number.get().saturating_sub(number.get() % BLOCK));
        let index = usize::try_from(number.get().checked_sub(first)?).ok()?;
        Some((self.block_of(number)?, index))
    }

    /// The index of the block that holds this record, unless the block has been removed.
    fn block_of(&self, number: Number) -> Option<usize> {
        let index = (number.get() / BLOCK).checked_sub(self.first.get() / BLOCK)?;
        usize::try_from(index).ok()
    }

    /// The records before this one, or all records, newest first.
    fn newest_first(&self, before: Option<RecordId>) -> impl Iterator<Item = (Number, &StoredRecord)> {
        let end = before.map_or(self.next.get(), |RecordId(before)| before.min(self.next.get()));
        (self.first.get()..end).rev().filter_map(Number::new).filter_map(|n| Some((n, self.get(n)?)))
    }

    /// The decisions before this one, newest first.
    pub(super) fn decisions(&self, before: Option<RecordId>) -> impl Iterator<Item = DecisionEntry> {
        self.newest_first(before).map(|(number, StoredRecord { scan, record, .. })| DecisionEntry {
            id: id(number),
            scan: scan.clone(),
            record: record.clone(),
        })
    }

    /// The sessions among the next `count` records before this one, newest first. Also returns the record from which to
    /// continue, if there may be more.
    pub(super) fn sessions(
        &self,
        before: Option<RecordId>,
        count: usize,
        now: DateTime<Utc>,
        max_age: TimeDelta,
    ) -> (Vec<Session>, Option<RecordId>) {
        let mut last = None;
        let session = |(number, entry): (Number, &StoredRecord)| {
            last = Some(id(number));
            let Decision::Accepted(grant) = &entry.record.decision else { return None };
            entry.enters()?;
            let exit = entry.closed_by.and_then(|exit| self.get(exit)).map(StoredRecord::moment);
            let store_id = entry.scan.store_id.clone();
            Some(Session::new(id(number), grant, store_id, entry.moment(), exit, now, max_age))
        };
        let sessions = self.newest_first(before).take(count).filter_map(session).collect();
        (sessions, last)
    }

    /// Replaces a visitor's id by a pseudonym in the block that holds the record `from`. Returns the number to continue
    /// from.
    pub(super) fn pseudonymize_block(
        &mut self,
        from: Number,
        visitor: &VisitorId,
        pseudonym: &VisitorId,
    ) -> Option<Number> {
        let from = from.max(self.first);
        let block = self.blocks.get_mut(self.block_of(from)?)?;
        block.iter_mut().for_each(|stored| stored.record.pseudonymize(visitor, pseudonym));
        Number::new((from.get() / BLOCK).saturating_add(1).saturating_mul(BLOCK))
    }

    /// Replaces a visitor's id by a pseudonym in the list of open sessions.
    pub(super) fn pseudonymize_open(&mut self, visitor: &VisitorId, pseudonym: &VisitorId) {
        let of_visitor: Vec<_> = self.open.extract_if(|(whose, _), _| whose == visitor).collect();
        self.open.extend(of_visitor.into_iter().map(|((_, store), open)| ((pseudonym.clone(), store), open)));
    }

    /// The numbers of used codes and of lists of open sessions.
    #[cfg(test)]
    pub(super) fn indexed(&self) -> [usize; 2] {
        [self.codes.len(), self.open.len()]
    }
}

/// The id of a record.
fn id(number: Number) -> RecordId {
    RecordId(number.get())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::decision::{Denial, Grant};
    use crate::domain::ids::EventId;
    use crate::domain::scan::AuthEvent;
    use crate::domain::visitor::{Visitor, VisitorType};

    fn visitor(name: &str) -> VisitorId {
        VisitorId::parse(name).expect("an id")
    }

    /// A record that is identified by its time; `before` is the previous record of its event.
    fn stored(time: u32, location: Location, before: Option<Number>) -> StoredRecord {
        let decision = if time.is_multiple_of(2) {
            let visitor = Visitor { id: visitor("known"), kind: VisitorType::Shopper };
            Decision::Accepted(Grant { visitor, device: None, payment_source: None })
        } else {
            Decision::refuse_unknown(Denial::KeyNotFound)
        };
        let recorded_at = DateTime::from_timestamp_nanos(i64::from(time));
        StoredRecord {
            scan: ScanDetails {
                event: AuthEvent { id: EventId::from_bytes([0; 16]), timestamp: recorded_at, location },
                store_id: StoreId::parse("S").expect("an id"),
                channel: None,
                caller: None,
            },
            fingerprint: Fingerprint::from_bytes([0; 32]),
            record: Record { decision, session: SessionEffect::Untouched, recorded_at },
            code: None,
            before,
            closed_by: None,
            next_open: None,
        }
    }

    fn time(record: &Record) -> i64 {
        record.recorded_at.timestamp_nanos_opt().expect("in range")
    }

    /// The oldest entry is removed after the records are renamed, and before the list is.
    #[test]
    fn removal_during_an_erasure_leaves_the_later_sessions_open() {
        let mut records = Records::new();
        let known = visitor("known");
        for time in [0, 2, 4] {
            records.add(stored(time, Location::Entry, None), SessionStep::Open(&known), TimeDelta::MAX);
        }
        records.pseudonymize_block(Number::MIN, &known, &visitor("erased"));
        records.pop();
        records.pseudonymize_open(&known, &visitor("erased"));
        records.pop();
        let exit = stored(6, Location::Exit, None);
        let (_, exit) = records.add(exit, SessionStep::CloseOldest(&visitor("erased")), TimeDelta::MAX);
        assert_eq!(exit.session, SessionEffect::Closed(RecordId(3)));
        while records.pop().is_some() {}
        assert_eq!(records.indexed(), [0, 0]);
    }

    proptest! {
        /// Whatever the order of additions and removals, the blocks hold the same records as a plain queue.
        #[test]
        fn blocks_behave_like_a_queue(steps in prop::collection::vec((0..2500_u32, 0..2500_u32), 1..6)) {
            let (mut records, mut queue) = (Records::new(), VecDeque::new());
            let mut added = 0;
            for (additions, removals) in steps {
                for _ in 0..additions {
                    let before = queue.back().map(|(number, _)| *number);
                    let new = stored(added, Location::Entry, before);
                    let (number, _) = records.add(new, SessionStep::None, TimeDelta::MAX);
                    queue.push_back((number, i64::from(added)));
                    added = added.saturating_add(1);
                }
                for _ in 0..removals {
                    let removed = records.pop().map(|(number, stored)| (number, time(&stored.record)));
                    prop_assert_eq!(removed, queue.pop_front());
                }
                prop_assert_eq!(records.len(), queue.len());
                prop_assert_eq!(records.oldest().map(|stored| time(&stored.record)), queue.front().map(|(_, time)| *time));
                let newest = queue.back().map(|(number, _)| *number);
                let all: Vec<_> = records.records_of(newest).map(|(_, record)| time(record)).collect();
                prop_assert_eq!(&all, &queue.iter().rev().map(|(_, time)| *time).collect::<Vec<_>>());
                let listed: Vec<_> = records.decisions(None).map(|decision| time(&decision.record)).collect();
                prop_assert_eq!(all, listed);
            }
            let mut from = Some(Number::MIN);
            while let Some(number) = from {
                from = records.pseudonymize_block(number, &visitor("known"), &visitor("erased"));
            }
            for decision in records.decisions(None) {
                if let Decision::Accepted(grant) = &decision.record.decision {
                    prop_assert_eq!(&grant.visitor.id, &visitor("erased"));
                }
            }
        }

        /// Whatever the order of entries, exits and removals, an exit closes the oldest session of its visitor that is
        /// open, not older than an hour, and not removed.
        #[test]
        fn exits_close_the_oldest_open_session(steps in prop::collection::vec((0..4_u8, 0..2_u8, 0..40_u32), 0..200)) {
            let (mut records, mut open, mut now) = (Records::new(), Vec::<(Number, VisitorId, u32)>::new(), 0_u32);
            for (step, whose, minutes) in steps {
                now = now.saturating_add(minutes);
                let who = visitor(["a", "b"][usize::from(whose)]);
                let at = DateTime::from_timestamp(i64::from(now).saturating_mul(60), 0).expect("in range");
                let add = |records: &mut Records, location, step| {
                    let mut new = stored(0, location, None);
                    let visitor = Visitor { id: who.clone(), kind: VisitorType::Shopper };
                    new.record.decision = Decision::Accepted(Grant { visitor, device: None, payment_source: None });
                    new.record.recorded_at = at;
                    records.add(new, step, TimeDelta::hours(1))
                };
                match step {
                    0 | 1 => {
                        let (number, record) = add(&mut records, Location::Entry, SessionStep::Open(&who));
                        prop_assert_eq!(record.session, SessionEffect::Opened(id(number)));
                        open.push((number, who, now));
                    }
                    2 => {
                        let (_, record) = add(&mut records, Location::Exit, SessionStep::CloseOldest(&who));
                        let is_oldest = |(_, of, at): &(Number, VisitorId, u32)| *of == who && now.saturating_sub(*at) <= 60;
                        let closed = open.iter().position(is_oldest).map(|index| open.remove(index).0);
                        let expected = closed.map_or(SessionEffect::NoneOpen, |number| SessionEffect::Closed(id(number)));
                        prop_assert_eq!(record.session, expected);
                    }
                    _ => {
                        let removed = records.pop().map(|(number, _)| number);
                        open.retain(|(number, ..)| Some(*number) != removed);
                    }
                }
            }
            while records.pop().is_some() {}
            prop_assert_eq!(records.indexed(), [0, 0]);
        }
    }
}
