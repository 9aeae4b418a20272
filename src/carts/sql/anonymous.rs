//! How many anonymous customers have carts, known well enough to refuse one too many without counting for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Anonymous owners: as many as the last count found and those who came since. Of one connector's own none is missed. Who comes while
/// they are counted may stand twice until the next count, and who came in vain once.
#[derive(Clone, Debug)]
pub(super) struct AnonymousOwners {
    /// How many of them there may be: whoever can make anonymous tokens could fill the disk otherwise.
    at_most: usize,
    numbers: Arc<Mutex<Numbers>>,
}

#[derive(Debug, Default)]
struct Numbers {
    known: usize,
    /// Whose first cart is being written.
    under_way: usize,
    /// Who has come since the count that is going on began.
    since: usize,
}

/// One whose first cart is being written; to be held until it is certain to be seen by whoever counts, or to be given up.
#[derive(Debug)]
#[must_use]
pub(super) struct Newcomer(AnonymousOwners);

impl AnonymousOwners {
    pub(super) fn new(at_most: usize) -> Self {
        Self { at_most, numbers: Arc::default() }
    }

    pub(super) fn number(&self) -> usize {
        let numbers = self.lock();
        numbers.known.saturating_add(numbers.under_way)
    }

    /// One more, unless there are enough.
    pub(super) fn one_more(&self) -> Option<Newcomer> {
        let mut numbers = self.lock();
        if numbers.known.saturating_add(numbers.under_way) >= self.at_most {
            return None;
        }
        numbers.under_way = numbers.under_way.saturating_add(1);
        Some(Newcomer(self.clone()))
    }

    /// To be called before they are counted.
    pub(super) fn begin_count(&self) {
        self.lock().since = 0;
    }

    /// To be called with what was counted. Whoever was still under way when the count began may be in it, or may not.
    pub(super) fn counted(&self, count: usize) {
        let mut numbers = self.lock();
        numbers.known = count.saturating_add(numbers.since);
    }

    /// No code runs under this lock that can panic: that it is poisoned says nothing.
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Newcomer {
    /// That the cart was written is not asked: nobody may be left who knows.
    fn drop(&mut self) {
        let mut numbers = self.0.lock();
        numbers.under_way = numbers.under_way.saturating_sub(1);
        numbers.known = numbers.known.saturating_add(1);
        numbers.since = numbers.since.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_so_many_whenever_they_are_counted() {
        let owners = AnonymousOwners::new(3);
        let first = owners.one_more().expect("room");
        owners.begin_count();
        owners.counted(0); // its cart was not there yet
        drop(first);
        assert_eq!(owners.number(), 1);

        owners.begin_count();
        drop(owners.one_more().expect("room"));
        owners.counted(1); // a count that did not see the second
        assert_eq!(owners.number(), 2);

        let third = owners.one_more().expect("room");
        assert!(owners.one_more().is_none(), "one is under way");
        drop(third);
        assert!(owners.one_more().is_none());

        owners.begin_count();
        owners.counted(2); // one came in vain
        let again = owners.one_more().expect("room");
        drop(again);
        assert_eq!(owners.number(), 3);
    }
}
