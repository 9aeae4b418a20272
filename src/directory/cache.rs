//! A cache of what the directory has found, which is invalidated as a whole.
//!
//! Every entry belongs to a generation. An invalidation starts a new generation, and entries of older ones are not
//! used, nor are the results of reads that began before it. Unknown keys are never cached: made-up keys would fill the
//! cache, and a new key would not be accepted immediately.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cache::{self, keeping_used};

const CAPACITY: usize = 100_000;

#[derive(Debug)]
pub(super) struct Cache<K, V> {
    generation: AtomicU64,
    entries: cache::Cache<K, (Generation, V)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl<K: Eq + Hash, V: Clone> Default for Cache<K, V> {
    fn default() -> Self {
        Self { generation: AtomicU64::new(0), entries: keeping_used(CAPACITY) }
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// The current generation. Get it before reading.
    pub(super) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    pub(super) fn find(&self, key: &K) -> Option<V> {
        let (generation, value) = self.entries.get(key)?;
        (generation == self.generation()).then_some(value)
    }

    /// Adds a value that was read in that generation.
    pub(super) fn insert(&self, key: K, generation: Generation, value: V) {
        self.entries.insert(key, (generation, value));
    }

    /// Invalidates all entries, after a change.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.entries.clear();
    }

    /// Removes the entries for which `keep` is false.
    pub(super) fn retain(&self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (_, value)| keep(value));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_read_before_an_invalidation_is_not_used_after_it() {
        let cache = Cache::default();
        let before = cache.generation();
        cache.insert("key", before, 1);
        assert_eq!(cache.find(&"key"), Some(1));
        cache.invalidate();
        assert_eq!(cache.find(&"key"), None);
        cache.insert("key", before, 1); // a slow read
        assert_eq!(cache.find(&"key"), None);
    }
}
