//! The records of a ledger in memory: a queue in the order of recording, in which each record points to the previous
//! one of its event.
//!
//! Records are added at one end and removed at the other. A record costs only its own size and one entry in an index.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use super::{DecisionCursor, DecisionEntry, Record};
use crate::digest::Fingerprint;
use crate::domain::ids::{EventId, VisitorId};

/// The number of a record. Later records have greater numbers.
pub(super) type Number = NonZeroU64;

/// A record with its event and fingerprint.
#[derive(Debug)]
pub(super) struct StoredRecord {
    pub(super) event: EventId,
    pub(super) fingerprint: Fingerprint,
    pub(super) record: Record,
    /// The previous record of the same event, if there was one. It may have been removed since.
    pub(super) before: Option<Number>,
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
}

impl Records {
    pub(super) fn new() -> Self {
        Self { first: Number::MIN, next: Number::MIN, blocks: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        usize::try_from(self.next.get().saturating_sub(self.first.get())).unwrap_or(usize::MAX)
    }

    /// Adds the newest record.
    pub(super) fn push(&mut self, stored: StoredRecord) -> Number {
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
        number
    }

    pub(super) fn oldest(&self) -> Option<&StoredRecord> {
        self.blocks.front()?.front()
    }

    /// Removes the oldest record.
    pub(super) fn pop(&mut self) -> Option<(Number, StoredRecord)> {
        let oldest = self.blocks.front_mut()?;
        let stored = oldest.pop_front()?;
        if oldest.is_empty() {
            self.blocks.pop_front();
        }
        let number = self.first;
        self.first = number.saturating_add(1);
        Some((number, stored))
    }

    /// The records of one event, newest first, given the number of its newest record.
    pub(super) fn records_of(&self, newest: Option<Number>) -> impl Iterator<Item = (&Fingerprint, &Record)> {
        let all = std::iter::successors(newest.and_then(|number| self.get(number)), |stored| self.get(stored.before?));
        all.map(|stored| (&stored.fingerprint, &stored.record))
    }

    fn get(&self, number: Number) -> Option<&StoredRecord> {
        let block = self.blocks.get(self.block_of(number)?)?;
        // Some records of the oldest block may have been removed.
        let first = self.first.get().max(number.get().saturating_sub(number.get() % BLOCK));
        block.get(usize::try_from(number.get().checked_sub(first)?).ok()?)
    }

    /// The index of the block that holds this record, unless the block has been removed.
    fn block_of(&self, number: Number) -> Option<usize> {
        let index = (number.get() / BLOCK).checked_sub(self.first.get() / BLOCK)?;
        usize::try_from(index).ok()
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &StoredRecord> {
        self.blocks.iter().flatten().rev()
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
}

impl StoredRecord {
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

    /// A record that is identified by its time; `before` is the previous record of its event.
    fn stored(time: u32, before: Option<Number>) -> StoredRecord {
        let decision = if time.is_multiple_of(2) {
            let visitor = Visitor { id: visitor("known"), kind: VisitorType::Shopper };
            Decision::Accepted(Grant { visitor, device: None, payment_source: None })
        } else {
            Decision::Denied(Denial::KeyNotFound)
        };
        let recorded_at = DateTime::from_timestamp_nanos(i64::from(time));
        let record = Record { decision, session: SessionEffect::Untouched, recorded_at };
        StoredRecord {
            event: EventId::from_bytes([0; 16]),
            fingerprint: Fingerprint::from_bytes([0; 32]),
            record,
            before,
        }
    }

    fn time(record: &Record) -> i64 {
        record.recorded_at.timestamp_nanos_opt().expect("in range")
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
                    queue.push_back((records.push(stored(added, before)), i64::from(added)));
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
                let listed: Vec<_> = records.newest_first().map(|stored| time(&stored.record)).collect();
                prop_assert_eq!(all, listed);
            }
            let mut from = Some(Number::MIN);
            while let Some(number) = from {
                from = records.pseudonymize_block(number, &visitor("known"), &visitor("erased"));
            }
            for stored in records.newest_first() {
                if let Decision::Accepted(grant) = &stored.record.decision {
                    prop_assert_eq!(&grant.visitor.id, &visitor("erased"));
                }
            }
        }
    }
}
