//! The records of a ledger in memory: each once, in the order of recording, and linked to the one before it of the same event.
//!
//! They come at one end and leave at the other, so that a record costs its own size and an entry of an index, and no more.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::{DecisionCursor, DecisionEntry, Record};
use crate::digest::Fingerprint;
use crate::domain::ids::{EventId, VisitorId};

/// The number of a record: later ones are greater.
pub(super) type Number = NonZeroU64;

/// A record, and what it is the record of.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) event: EventId,
    pub(super) fingerprint: Fingerprint,
    pub(super) record: Record,
    /// The one before it of the same event, if there was one; it may have left since.
    pub(super) before: Option<Number>,
}

/// How many are kept together.
const BLOCK: u64 = 1024;

/// All of them, in blocks: none is ever moved to make room for more, and there is never room for many more than there are.
#[derive(Debug)]
pub(super) struct Records {
    /// The number of the oldest; while there is none, of the next.
    first: Number,
    /// The number of the next.
    next: Number,
    /// Each with those whose numbers divided by [`BLOCK`] are the same.
    blocks: VecDeque<VecDeque<Kept>>,
}

impl Records {
    pub(super) fn new() -> Self {
        Self { first: Number::MIN, next: Number::MIN, blocks: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.next.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX)
    }

    /// The newest from now on.
    pub(super) fn push(&mut self, kept: Kept) -> Number {
        let number = self.next;
        self.next = number.saturating_add(1);
        match self.blocks.back_mut() {
            Some(newest) if !number.get().is_multiple_of(BLOCK) => newest.push_back(kept),
            _ => {
                let mut block = VecDeque::with_capacity(usize::try_from(BLOCK).unwrap_or_default());
                block.push_back(kept);
                self.blocks.push_back(block);
            }
        }
        number
    }

    pub(super) fn oldest(&self) -> Option<&Kept> {
        self.blocks.front()?.front()
    }

    /// The oldest leaves.
    pub(super) fn pop(&mut self) -> Option<(Number, Kept)> {
        let oldest = self.blocks.front_mut()?;
        let kept = oldest.pop_front()?;
        if oldest.is_empty() {
            self.blocks.pop_front();
        }
        let number = self.first;
        self.first = number.saturating_add(1);
        Some((number, kept))
    }

    /// Those of one event, of which the newest is given, the newest first.
    pub(super) fn of(&self, newest: Option<Number>) -> impl Iterator<Item = (&Fingerprint, &Record)> {
        let all = std::iter::successors(newest.and_then(|number| self.get(number)), |kept| self.get(kept.before?));
        all.map(|kept| (&kept.fingerprint, &kept.record))
    }

    fn get(&self, number: Number) -> Option<&Kept> {
        let block = self.blocks.get(self.block_of(number)?)?;
        // Of the oldest block, some may have left.
        let first = self.first.get().max(number.get().saturating_sub(number.get() % BLOCK));
        block.get(usize::try_from(number.get().checked_sub(first)?).ok()?)
    }

    /// Which block it is in, if it has not left.
    fn block_of(&self, number: Number) -> Option<usize> {
        let place = (number.get() / BLOCK).checked_sub(self.first.get() / BLOCK)?;
        usize::try_from(place).ok()
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Kept> {
        self.blocks.iter().flatten().rev()
    }

    /// Puts a pseudonym in a visitor's place in the block of the one of this number, and says where to go on.
    pub(super) fn rename_some(&mut self, from: Number, visitor: &VisitorId, pseudonym: &VisitorId) -> Option<Number> {
        let from = from.max(self.first);
        let block = self.blocks.get_mut(self.block_of(from)?)?;
        block.iter_mut().for_each(|kept| kept.record.rename(visitor, pseudonym));
        Number::new((from.get() / BLOCK).saturating_add(1).saturating_mul(BLOCK))
    }
}

impl Kept {
    pub(super) fn cursor(&self) -> DecisionCursor {
        let recorded_at = self.record.recorded_at.timestamp_nanos_opt().unwrap_or(i64::MAX);
        DecisionCursor { recorded_at, event: self.event, fingerprint: self.fingerprint }
    }

    pub(super) fn entry(&self) -> DecisionEntry {
        DecisionEntry { event: self.event, fingerprint: self.fingerprint, record: self.record.clone() }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::decision::{Decision, Denial, Grant};
    use crate::domain::visitor::{Visitor, VisitorType};
    use crate::ledger::SessionEffect;

    fn visitor(name: &str) -> VisitorId {
        VisitorId::parse(name).expect("an id")
    }

    /// One that is known by its time, and the last of an event by the number of the one before.
    fn kept(time: u32, before: Option<Number>) -> Kept {
        let decision = if time.is_multiple_of(2) {
            let visitor = Visitor { id: visitor("known"), kind: VisitorType::Shopper };
            Decision::Accepted(Grant { visitor, device: None, payment_source: None })
        } else {
            Decision::Denied(Denial::KeyNotFound)
        };
        let recorded_at = DateTime::from_timestamp_nanos(i64::from(time));
        let record = Record { decision, session: SessionEffect::Untouched, recorded_at };
        Kept { event: EventId::from_bytes([0; 16]), fingerprint: Fingerprint::from_bytes([0; 32]), record, before }
    }

    fn time(record: &Record) -> i64 {
        record.recorded_at.timestamp_nanos_opt().expect("in range")
    }

    proptest! {
        /// However many come and go, in whatever order: in blocks they are what they would be in one row.
        #[test]
        fn they_are_those_that_came_less_those_that_left(steps in prop::collection::vec((0..2500_u32, 0..2500_u32), 1..6)) {
            let (mut records, mut row) = (Records::new(), VecDeque::new());
            let mut came = 0;
            for (come, go) in steps {
                for _ in 0..come {
                    let before = row.back().map(|(number, _)| *number);
                    row.push_back((records.push(kept(came, before)), i64::from(came)));
                    came = came.saturating_add(1);
                }
                for _ in 0..go {
                    let left = records.pop().map(|(number, kept)| (number, time(&kept.record)));
                    prop_assert_eq!(left, row.pop_front());
                }
                prop_assert_eq!(records.len(), row.len());
                prop_assert_eq!(records.oldest().map(|kept| time(&kept.record)), row.front().map(|(_, time)| *time));
                let newest = row.back().map(|(number, _)| *number);
                let all: Vec<_> = records.of(newest).map(|(_, record)| time(record)).collect();
                prop_assert_eq!(&all, &row.iter().rev().map(|(_, time)| *time).collect::<Vec<_>>());
                let listed: Vec<_> = records.newest_first().map(|kept| time(&kept.record)).collect();
                prop_assert_eq!(all, listed);
            }
            let mut from = Some(Number::MIN);
            while let Some(number) = from {
                from = records.rename_some(number, &visitor("known"), &visitor("erased"));
            }
            for kept in records.newest_first() {
                if let Decision::Accepted(grant) = &kept.record.decision {
                    prop_assert_eq!(&grant.visitor.id, &visitor("erased"));
                }
            }
        }
    }
}
