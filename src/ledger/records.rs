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

/// All of them.
#[derive(Debug)]
pub(super) struct Records {
    /// The number of the oldest; while there is none, of the next.
    first: Number,
    kept: VecDeque<Kept>,
}

impl Records {
    pub(super) fn new() -> Self {
        Self { first: Number::MIN, kept: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// The newest from now on.
    pub(super) fn push(&mut self, kept: Kept) -> Number {
        let number = self.first.saturating_add(self.kept.len() as u64);
        self.kept.push_back(kept);
        number
    }

    pub(super) fn oldest(&self) -> Option<&Kept> {
        self.kept.front()
    }

    /// The oldest leaves.
    pub(super) fn pop(&mut self) -> Option<(Number, Kept)> {
        let kept = self.kept.pop_front()?;
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
        let place = number.get().checked_sub(self.first.get())?;
        self.kept.get(usize::try_from(place).ok()?)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Kept> {
        self.kept.iter().rev()
    }

    /// Puts a pseudonym in a visitor's place in some of them, beginning with the one of this number, and says where to go on.
    pub(super) fn rename_some(
        &mut self,
        from: Number,
        some: usize,
        visitor: &VisitorId,
        pseudonym: &VisitorId,
    ) -> Option<Number> {
        let from = from.max(self.first);
        let place = usize::try_from(from.get().saturating_sub(self.first.get())).ok()?;
        let mut renamed = 0_u64;
        for kept in self.kept.iter_mut().skip(place).take(some) {
            kept.record.rename(visitor, pseudonym);
            renamed = renamed.saturating_add(1);
        }
        (renamed > 0).then(|| from.saturating_add(renamed))
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
