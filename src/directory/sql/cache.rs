//! The cache of directory rows.
//!
//! Every entry belongs to a generation. A change of the directory starts a new generation, and entries of older
//! generations are not used. On a shared database, the generation is valid only for a limited time after the last check
//! for changes by other connectors.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::cache::{self, keeping_used};
use crate::digest::Digest;
use crate::directory::{Kind, Registration};
use crate::domain::ids::StoreId;
use crate::domain::store::Store;

/// The maximum number of entries of each kind.
const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Cache {
    generation: AtomicU64,
    /// Until when the generation is valid. Not used when no other process can change the directory.
    fresh_until: Mutex<Option<Instant>>,
    is_shared: bool,
    pub(super) stores: Entries<StoreId, Arc<Store>>,
    pub(super) registrations: Entries<(Kind, Digest), Registration>,
}

/// The generation of a read. Get it before reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generation(Option<u64>);

impl Cache {
    /// `is_shared`: other processes may change the directory; [`Cache::set_fresh`] is called after each check for their
    /// changes.
    pub(super) fn new(is_shared: bool) -> Self {
        Self { is_shared, ..Self::default() }
    }

    /// The current generation. `Generation(None)` if the last check for changes is too old.
    pub(super) fn generation(&self) -> Generation {
        let generation = self.generation.load(Ordering::Acquire);
        let is_fresh = !self.is_shared
            || self
                .fresh_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some_and(|until| Instant::now() < until);
        Generation(is_fresh.then_some(generation))
    }

    /// Invalidates all entries, after a change.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.stores.0.clear();
        self.registrations.0.clear();
    }

    /// Changes of other processes up to `checked_at` are known. The generation stays valid for `span` from then on.
    pub(super) fn set_fresh(&self, checked_at: Instant, span: Duration) {
        *self.fresh_until.lock().unwrap_or_else(PoisonError::into_inner) = checked_at.checked_add(span);
    }
}

/// Values by key, each with its generation.
#[derive(Debug)]
pub(super) struct Entries<K, V>(cache::Cache<K, (u64, V)>);

impl<K: Eq + Hash, V: Clone> Default for Entries<K, V> {
    fn default() -> Self {
        Self(keeping_used(CAPACITY))
    }
}

impl<K: Eq + Hash, V: Clone> Entries<K, V> {
    pub(super) fn find(&self, key: &K, Generation(generation): Generation) -> Option<V> {
        let (its, value) = self.0.get(key)?;
        (Some(its) == generation).then_some(value)
    }

    /// Adds a value that was read in that generation.
    pub(super) fn insert(&self, key: K, Generation(generation): Generation, value: V) {
        if let Some(generation) = generation {
            self.0.insert(key, (generation, value));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_read_before_a_change_is_not_used_after_it() {
        let (cache, entries) = (Cache::new(false), Entries::default());
        let before = cache.generation();
        entries.insert("key", before, 1);
        assert_eq!(entries.find(&"key", cache.generation()), Some(1));
        cache.invalidate();
        assert_eq!(entries.find(&"key", cache.generation()), None);
        entries.insert("key", before, 1); // a slow read
        assert_eq!(entries.find(&"key", cache.generation()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_value_of_a_shared_database_is_used_only_for_a_time_after_the_last_check() {
        let (cache, entries) = (Cache::new(true), Entries::default());
        entries.insert("key", cache.generation(), 1);
        assert_eq!(entries.find(&"key", cache.generation()), None, "no check yet");
        cache.set_fresh(Instant::now(), Duration::from_secs(2));
        entries.insert("key", cache.generation(), 1);
        assert_eq!(entries.find(&"key", cache.generation()), Some(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(entries.find(&"key", cache.generation()), None);
    }
}
