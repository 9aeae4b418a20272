//! Counts anonymous owners of carts, to refuse a new owner above the limit without a query for each.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of anonymous owners: the result of the last count plus the owners added since by this connector. It never
/// misses an owner that this connector added. Until the next count it may be too high: an owner added during a count
/// may be counted twice, and a failed insert is counted once.
#[derive(Clone, Debug)]
pub(crate) struct AnonymousOwners {
    /// The maximum: clients that can request anonymous tokens could fill the disk otherwise.
    max_owners: usize,
    numbers: Arc<Mutex<Numbers>>,
}

#[derive(Debug, Default)]
struct Numbers {
    counted: usize,
    /// Owners whose first cart is being written.
    reserved: usize,
    /// Owners added since the running count began.
    added_since: usize,
}

/// The reservation of an owner whose first cart is being written. Hold it until the row is visible to a count, or the
/// write has failed.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reservation(AnonymousOwners);

impl AnonymousOwners {
    pub(crate) fn new(max_owners: usize) -> Self {
        Self { max_owners, numbers: Arc::default() }
    }

    pub(crate) fn current(&self) -> usize {
        let numbers = self.lock();
        numbers.counted.saturating_add(numbers.reserved)
    }

    /// A reservation for a new owner, unless the limit is reached.
    pub(crate) fn reserve(&self) -> Option<Reservation> {
        let mut numbers = self.lock();
        if numbers.counted.saturating_add(numbers.reserved) >= self.max_owners {
            return None;
        }
        numbers.reserved = numbers.reserved.saturating_add(1);
        Some(Reservation(self.clone()))
    }

    /// Call before the owners are counted.
    pub(crate) fn begin_count(&self) {
        self.lock().added_since = 0;
    }

    /// Call with the result of the count. Owners whose reservation was open when the count began may or may not be in
    /// it.
    pub(crate) fn finish_count(&self, count: usize) {
        let mut numbers = self.lock();
        numbers.counted = count.saturating_add(numbers.added_since);
    }

    /// No code under this lock can panic, so ignore poisoning.
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    /// Counts the owner even if the write failed: after a timeout the result is unknown.
    fn drop(&mut self) {
        let mut numbers = self.0.lock();
        numbers.reserved = numbers.reserved.saturating_sub(1);
        numbers.counted = numbers.counted.saturating_add(1);
        numbers.added_since = numbers.added_since.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting_owners_never_exceeds_the_limit() {
        let owners = AnonymousOwners::new(3);
        let first = owners.reserve().expect("below the limit");
        owners.begin_count();
        owners.finish_count(0); // the cart was not visible yet
        drop(first);
        assert_eq!(owners.current(), 1);

        owners.begin_count();
        drop(owners.reserve().expect("below the limit"));
        owners.finish_count(1); // a count that did not see the second
        assert_eq!(owners.current(), 2);

        let third = owners.reserve().expect("below the limit");
        assert!(owners.reserve().is_none(), "one is reserved");
        drop(third);
        assert!(owners.reserve().is_none());

        owners.begin_count();
        owners.finish_count(2); // one write had failed
        let again = owners.reserve().expect("below the limit");
        drop(again);
        assert_eq!(owners.current(), 3);
    }
}
