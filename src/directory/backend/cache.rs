//! The cache of answers from the identity backend, by the digest of the key; it never has the key itself.
//!
//! Unknown keys are not cached. So made-up keys cannot fill the cache, and a newly registered key is accepted
//! immediately.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::LookupRequest;
use crate::digest::Digest;
use crate::directory::{Kind, Registration};
use crate::domain::ids::StoreId;
use crate::domain::scan::KeyChannel;

/// The maximum number of entries.
const CAPACITY: usize = 100_000;

/// Everything that an answer may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kind: Kind,
    digest: Digest,
    store: StoreId,
    channel: Option<KeyChannel>,
}

impl From<&LookupRequest<'_>> for Key {
    fn from(request: &LookupRequest<'_>) -> Self {
        let context = request.context;
        Self { kind: request.kind, digest: request.digest, store: context.store.clone(), channel: context.channel }
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    ttl: Duration,
    /// Raised each time the cache is cleared. The answer to a request from before that is not added.
    generation: AtomicU64,
    entries: DashMap<Key, (Instant, Registration)>,
    /// The approximate number of entries. `DashMap::len` would lock every shard.
    len: AtomicUsize,
}

impl Cache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, generation: AtomicU64::new(0), entries: DashMap::new(), len: AtomicUsize::new(0) }
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The current generation. Get it before the request is sent.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Registration> {
        let entry = self.entries.get(key)?;
        let (at, registration) = entry.value();
        (now.saturating_duration_since(*at) < self.ttl).then(|| registration.clone())
    }

    /// Adds the answer to a request that was sent at `asked_at`. At capacity, all entries are removed first.
    pub(super) fn insert(&self, key: &Key, generation: u64, asked_at: Instant, found: Registration) {
        if self.ttl.is_zero() {
            return;
        }
        if self.len.load(Ordering::Relaxed) >= CAPACITY {
            self.clear();
        }
        if self.entries.insert(key.clone(), (asked_at, found)).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        if self.generation() != generation && self.entries.remove(key).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Removes all entries, and does not add the answers to requests in flight.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.clear();
    }

    /// Removes expired entries.
    pub(super) fn sweep(&self, now: Instant) {
        self.entries.retain(|_, (at, _)| now.saturating_duration_since(*at) < self.ttl);
        self.len.store(self.entries.len(), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.entries.clear();
        self.len.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
