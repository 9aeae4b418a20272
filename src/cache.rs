//! Bounded caches. A full cache evicts one entry for each new one, so it stays full and an insertion costs the same.
//!
//! A cache has no clock and no time to live: its user keeps a time or a generation in each value and checks it.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};

pub use quick_cache::sync::Cache;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

/// The number of parts, each with its own lock and an equal share of the capacity.
const SHARDS: usize = 16;
/// With fewer entries than this, a cache has one shard: the keys would not spread evenly over more.
const MIN_SHARDED: usize = 1024;

/// A cache in which entries that are used again outlive the others. They take up to half of the capacity. Of the other
/// entries, the oldest is evicted first.
pub fn keeping_used<K: Eq + Hash, V: Clone>(capacity: usize) -> Cache<K, V> {
    bounded(capacity, 0.5)
}

/// A cache of the newest entries, whether they are used or not.
pub fn keeping_newest<K: Eq + Hash, V: Clone>(capacity: usize) -> Cache<K, V> {
    bounded(capacity, 0.0)
}

/// `used`: the fraction of the capacity for entries that were used again.
fn bounded<K: Eq + Hash, V: Clone>(capacity: usize, used: f64) -> Cache<K, V> {
    let shards = if capacity < MIN_SHARDED { 1 } else { SHARDS };
    let per_shard = capacity.checked_div(shards).unwrap_or(capacity);
    let capacity = per_shard.saturating_mul(shards); // rounded down, because quick_cache rounds up
    let options = OptionsBuilder::new()
        .shards(shards)
        .estimated_items_capacity(capacity)
        .weight_capacity(u64::try_from(capacity).unwrap_or(u64::MAX))
        .hot_allocation(used)
        .ghost_allocation(0.0) // keys of evicted entries would take the memory of an entry
        .build();
    options.map_or_else(
        |_| Cache::new(capacity), // only if an option is missing
        |options| {
            Cache::with_options(options, UnitWeighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
        },
    )
}

/// A cache of up to 100 000 entries that is invalidated as a whole.
///
/// Every entry belongs to a generation. An invalidation starts a new generation, and entries of older ones are not
/// used, nor are the results of reads that began before it.
#[derive(Debug)]
pub(crate) struct GenerationCache<K, V> {
    generation: AtomicU64,
    entries: Cache<K, (Generation, V)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl<K: Eq + Hash, V: Clone> Default for GenerationCache<K, V> {
    fn default() -> Self {
        Self { generation: AtomicU64::new(0), entries: keeping_used(100_000) }
    }
}

impl<K: Eq + Hash, V: Clone> GenerationCache<K, V> {
    /// The current generation. Get it before reading.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    pub(crate) fn find(&self, key: &K) -> Option<V> {
        let (generation, value) = self.entries.get(key)?;
        (generation == self.generation()).then_some(value)
    }

    /// Adds a value that was read in that generation.
    pub(crate) fn insert(&self, key: K, generation: Generation, value: V) {
        self.entries.insert(key, (generation, value));
    }

    /// Invalidates all entries, after a change.
    pub(crate) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.entries.clear();
    }

    /// Removes the entries for which `keep` is false.
    pub(crate) fn retain(&self, keep: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (_, value)| keep(value));
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 100_000;
    /// Keys spread over the shards at random, so some shards are full before the others.
    const EVENLY: usize = CAPACITY / 100 * 98;

    fn kept(cache: &Cache<usize, ()>, keys: std::ops::Range<usize>) -> usize {
        keys.filter(|key| cache.peek(key).is_some()).count()
    }

    #[test]
    fn one_key_more_than_the_capacity_does_not_empty_the_cache() {
        for cache in [keeping_used(CAPACITY), keeping_newest(CAPACITY)] {
            for key in 0..CAPACITY {
                cache.insert(key, ());
            }
            let before = cache.len();
            assert!((EVENLY..=CAPACITY).contains(&before), "{before}");
            cache.insert(CAPACITY, ());
            assert!(cache.peek(&CAPACITY).is_some());
            assert!((before..=before + 1).contains(&cache.len()), "at most one is evicted");
        }
    }

    #[test]
    fn newest_entries_are_kept() {
        let cache = keeping_newest(CAPACITY);
        for key in 0..2 * CAPACITY {
            cache.insert(key, ());
            cache.get(&(key / 2)); // older entries are used, without effect
        }
        let newest = kept(&cache, CAPACITY..2 * CAPACITY);
        assert!(newest > EVENLY, "{newest}");
        assert!(cache.len() <= CAPACITY);
    }

    #[test]
    fn used_entries_outlive_unused_ones() {
        let cache = keeping_used(CAPACITY);
        let used = 0..CAPACITY / 4;
        for key in 0..2 * CAPACITY {
            cache.insert(key, ());
            cache.get(&(key % used.end));
        }
        assert_eq!(kept(&cache, used.clone()), used.end);
        let newest = 2 * CAPACITY - CAPACITY / 3..2 * CAPACITY;
        assert_eq!(kept(&cache, newest.clone()), newest.len());
        assert!(cache.len() <= CAPACITY);
    }

    #[test]
    fn capacity_is_never_exceeded() {
        for capacity in [1, 2, 100, 1023, 1024, 1025, 2047] {
            for cache in [keeping_used(capacity), keeping_newest(capacity)] {
                for key in 0..4 * capacity {
                    cache.insert(key, ());
                    assert!(cache.peek(&key).is_some());
                    assert!(cache.len() <= capacity);
                }
            }
        }
    }

    #[test]
    fn a_value_read_before_an_invalidation_is_not_used_after_it() {
        let cache = GenerationCache::default();
        let before = cache.generation();
        cache.insert("key", before, 1);
        assert_eq!(cache.find(&"key"), Some(1));
        cache.invalidate();
        assert_eq!(cache.find(&"key"), None);
        cache.insert("key", before, 1); // a slow read
        assert_eq!(cache.find(&"key"), None);
    }
}
