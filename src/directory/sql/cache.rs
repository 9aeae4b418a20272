//! What was read of the directory lately. Nothing in here outlives a change: whoever changes the directory moves on to another
//! generation, and what belongs to an older one counts as not there.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use crate::digest::Digest;
use crate::directory::{Kind, Registration};
use crate::domain::ids::StoreId;
use crate::domain::store::Store;

/// The most that is kept of each kind.
const CAPACITY: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct Cache {
    generation: AtomicU64,
    /// Until when the generation is known to be the newest; always, when nobody else can change the directory.
    fresh_until: Mutex<Option<Instant>>,
    is_shared: bool,
    pub(super) stores: Kept<StoreId, Arc<Store>>,
    pub(super) registrations: Kept<(Kind, Digest), Registration>,
}

/// The generation in which something was read. To be asked for before reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generation(Option<u64>);

impl Cache {
    /// `is_shared`: others may change the directory as well, and [`Cache::is_fresh`] says when that was last looked at.
    pub(super) fn new(is_shared: bool) -> Self {
        Self { is_shared, ..Self::default() }
    }

    /// The generation now; none when that is not known.
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

    /// Something has changed: all that was read before counts no more.
    pub(super) fn move_on(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.stores.clear();
        self.registrations.clear();
    }

    /// Nothing that others have changed up to `looked` is missing from this generation; that holds for `span`.
    pub(super) fn is_fresh(&self, looked: Instant, span: Duration) {
        *self.fresh_until.lock().unwrap_or_else(PoisonError::into_inner) = looked.checked_add(span);
    }
}

/// Values by their keys, each with its generation.
#[derive(Debug)]
pub(super) struct Kept<K: Eq + Hash, V> {
    values: DashMap<K, (u64, V)>,
    /// About how many; kept apart, since counting a `DashMap` locks all of it.
    len: AtomicUsize,
}

impl<K: Eq + Hash, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { values: DashMap::new(), len: AtomicUsize::new(0) }
    }
}

impl<K: Eq + Hash, V: Clone> Kept<K, V> {
    pub(super) fn find(&self, key: &K, Generation(generation): Generation) -> Option<V> {
        let kept = self.values.get(key)?;
        let (its, value) = kept.value();
        (Some(*its) == generation).then(|| value.clone())
    }

    /// Keeps what was read in that generation. At capacity everything goes: what is asked for again is soon back.
    pub(super) fn keep(&self, key: K, Generation(generation): Generation, value: V) {
        let Some(generation) = generation else { return };
        if self.len.load(Ordering::Relaxed) >= CAPACITY {
            self.clear();
        }
        if self.values.insert(key, (generation, value)).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// About how many there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    fn clear(&self) {
        self.values.clear();
        self.len.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_found_after_it() {
        let (cache, kept) = (Cache::new(false), Kept::default());
        let before = cache.generation();
        kept.keep("key", before, 1);
        assert_eq!(kept.find(&"key", cache.generation()), Some(1));
        cache.move_on();
        assert_eq!(kept.find(&"key", cache.generation()), None);
        kept.keep("key", before, 1); // a reader who was slow
        assert_eq!(kept.find(&"key", cache.generation()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn where_others_write_it_counts_only_as_long_as_that_is_looked_at() {
        let (cache, kept) = (Cache::new(true), Kept::default());
        kept.keep("key", cache.generation(), 1);
        assert_eq!(kept.find(&"key", cache.generation()), None, "nobody has looked");
        cache.is_fresh(Instant::now(), Duration::from_secs(2));
        kept.keep("key", cache.generation(), 1);
        assert_eq!(kept.find(&"key", cache.generation()), Some(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(kept.find(&"key", cache.generation()), None);
    }

    #[test]
    fn it_is_bounded() {
        let (cache, kept) = (Cache::new(false), Kept::default());
        for number in 0..=CAPACITY {
            kept.keep(number, cache.generation(), ());
        }
        assert_eq!(kept.values.len(), 1);
    }
}
