//! New events without end, in bounded memory: a full ledger is replaced by an empty one.

use std::sync::Arc;

use crate::fixture::CAPACITY;

pub(crate) struct Fresh<T, Make> {
    make: Make,
    current: Arc<T>,
    number: u64,
}

impl<T, Make: FnMut() -> T> Fresh<T, Make> {
    pub(crate) fn new(mut make: Make) -> Self {
        Self { current: Arc::new(make()), make, number: 0 }
    }

    /// The ledger or connector for the next event, and the number of the event. The measured function must return the
    /// ledger or connector, so that dropping it is not measured.
    pub(crate) fn next(&mut self) -> (Arc<T>, u64) {
        self.number += 1;
        if self.number.is_multiple_of(CAPACITY) {
            self.current = Arc::new((self.make)());
        }
        (Arc::clone(&self.current), self.number)
    }
}
