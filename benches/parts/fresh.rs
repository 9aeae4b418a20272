//! New events for as long as a measurement likes, in bounded memory: whoever is full is exchanged for another who is empty.

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

    /// The number of the next event, and where there is room for it. A measurement hands the latter back, so that it is not dropped while
    /// time counts.
    pub(crate) fn next(&mut self) -> (Arc<T>, u64) {
        self.number += 1;
        if self.number.is_multiple_of(CAPACITY) {
            self.current = Arc::new((self.make)());
        }
        (Arc::clone(&self.current), self.number)
    }
}
