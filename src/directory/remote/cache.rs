//! What was found lately, by the digest of the key: never the key itself.
//!
//! Strangers are not kept, so that who makes up keys fills nothing, and who has just registered gets in.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::Question;
use crate::digest::Digest;
use crate::directory::{Kind, Registration};
use crate::domain::ids::StoreId;
use crate::domain::scan::KeyChannel;

/// The most that is kept.
const CAPACITY: usize = 100_000;

/// All that an answer may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kind: Kind,
    digest: Digest,
    store: StoreId,
    channel: Option<KeyChannel>,
}

impl From<&Question<'_>> for Key {
    fn from(question: &Question<'_>) -> Self {
        let asker = question.asker;
        Self { kind: question.kind, digest: question.digest, store: asker.store.clone(), channel: asker.channel }
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    keeps_for: Duration,
    /// How often all was forgotten: what was asked before that is not kept.
    generation: AtomicU64,
    found: DashMap<Key, (Instant, Registration)>,
    /// About how many; kept apart, since counting a `DashMap` locks all of it.
    len: AtomicUsize,
}

impl Cache {
    pub(super) fn new(keeps_for: Duration) -> Self {
        Self { keeps_for, generation: AtomicU64::new(0), found: DashMap::new(), len: AtomicUsize::new(0) }
    }

    pub(super) fn keeps_for(&self) -> Duration {
        self.keeps_for
    }

    /// To be asked for before the question.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Registration> {
        let found = self.found.get(key)?;
        let (at, registration) = found.value();
        (now.saturating_duration_since(*at) < self.keeps_for).then(|| registration.clone())
    }

    /// Keeps what was found by a question of `asked_at`. At capacity everything goes: what is asked for again is soon back.
    pub(super) fn keep(&self, key: &Key, generation: u64, asked_at: Instant, found: Registration) {
        if self.keeps_for.is_zero() {
            return;
        }
        if self.len.load(Ordering::Relaxed) >= CAPACITY {
            self.clear();
        }
        if self.found.insert(key.clone(), (asked_at, found)).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
        if self.generation() != generation && self.found.remove(key).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Nothing that was asked until now counts any more.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.clear();
    }

    /// Lets go of what is too old.
    pub(super) fn sweep(&self, now: Instant) {
        self.found.retain(|_, (at, _)| now.saturating_duration_since(*at) < self.keeps_for);
        self.len.store(self.found.len(), Ordering::Relaxed);
    }

    fn clear(&self) {
        self.found.clear();
        self.len.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
