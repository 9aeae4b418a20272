//! The cache of answers from the identity backend, by the digest of the key; it never has the key itself.
//!
//! Unknown keys are not cached. So made-up keys cannot fill the cache, and a newly registered key is accepted
//! immediately.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::LookupRequest;
use crate::cache::{self, keeping_used};
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
    entries: cache::Cache<Key, (Instant, Registration)>,
}

impl Cache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, generation: AtomicU64::new(0), entries: keeping_used(CAPACITY) }
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// The current generation. Get it before the request is sent.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Registration> {
        let (at, registration) = self.entries.get(key)?;
        (now.saturating_duration_since(at) < self.ttl).then_some(registration)
    }

    /// Adds the answer to a request that was sent at `asked_at`.
    pub(super) fn insert(&self, key: &Key, generation: u64, asked_at: Instant, found: Registration) {
        if self.ttl.is_zero() {
            return;
        }
        self.entries.insert(key.clone(), (asked_at, found));
        if self.generation() != generation {
            self.entries.remove(key);
        }
    }

    /// Removes all entries, and does not add the answers to requests in flight.
    pub(super) fn invalidate(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.entries.clear();
    }

    /// Removes expired entries.
    pub(super) fn sweep(&self, now: Instant) {
        self.entries.retain(|_, (at, _)| now.saturating_duration_since(*at) < self.ttl);
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
