//! Carts in memory, behind one lock. Code under the lock takes microseconds and does not await.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::digest::Digest;
use crate::shopper::carts::Owner;
use crate::shopper::carts::rules::{CartRefusal, Carts};

/// The number of owners that a sweep checks before it yields.
const SWEEP_BATCH: usize = 1000;

/// Carts that are lost when the process ends.
#[derive(Debug)]
pub(super) struct MemoryCarts {
    capacity: usize,
    /// Ordered, so that a sweep can continue after the last owner it checked.
    entries: Mutex<BTreeMap<Digest, Entry>>,
}

#[derive(Debug)]
struct Entry {
    owner: Owner,
    carts: Carts,
}

impl MemoryCarts {
    /// A store for at most `capacity` owners.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    pub(super) fn anonymous_owners(&self) -> usize {
        self.lock().values().filter(|entry| entry.owner.is_anonymous).count()
    }

    pub(super) fn get(&self, owner: Owner, now: DateTime<Utc>) -> Carts {
        current(&self.lock(), owner, now)
    }

    pub(super) fn change<T>(
        &self,
        owner: Owner,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Carts) -> Result<T, CartRefusal>,
    ) -> Result<T, CartRefusal> {
        let mut entries = self.lock();
        let mut carts = current(&entries, owner, now);
        let result = change(&mut carts)?;
        if !carts.is_empty() && !entries.contains_key(&owner.digest) && entries.len() >= self.capacity {
            return Err(CartRefusal::Full);
        }
        store(&mut entries, owner, carts);
        Ok(result)
    }

    pub(super) fn migrate(&self, from: Owner, to: Owner, now: DateTime<Utc>) -> Result<Carts, CartRefusal> {
        let mut entries = self.lock();
        let mut carts = current(&entries, to, now);
        if from != to {
            carts.merge(current(&entries, from, now), now)?;
            // The target takes the anonymous owner's entry, so the capacity is not exceeded.
            store(&mut entries, from, Carts::default());
            store(&mut entries, to, carts.clone());
        }
        Ok(carts)
    }

    pub(super) fn forget(&self, owner: Digest) {
        self.lock().remove(&owner);
    }

    /// Deletes the expired carts of one batch of owners after `last`. Returns the last owner checked, or `None` at the
    /// end.
    pub(super) fn sweep_some(&self, last: Option<Digest>, now: DateTime<Utc>) -> Option<Digest> {
        let mut entries = self.lock();
        let after_last = (last.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let (mut checked, mut expired) = (None, Vec::new());
        for (digest, Entry { owner, carts }) in entries.range_mut(after_last).take(SWEEP_BATCH) {
            *carts = owner.current(std::mem::take(carts), now);
            if carts.is_empty() {
                expired.push(*digest);
            }
            checked = Some(*digest);
        }
        for digest in expired {
            entries.remove(&digest);
        }
        checked
    }

    /// The number of owners.
    #[cfg(test)]
    pub(super) fn owners(&self) -> usize {
        self.lock().len()
    }

    /// A panic while the lock was held leaves no half-made change: an entry is always replaced as a whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current(entries: &BTreeMap<Digest, Entry>, owner: Owner, now: DateTime<Utc>) -> Carts {
    entries.get(&owner.digest).map_or_else(Carts::default, |entry| owner.current(entry.carts.clone(), now))
}

fn store(entries: &mut BTreeMap<Digest, Entry>, owner: Owner, carts: Carts) {
    if carts.is_empty() {
        entries.remove(&owner.digest);
    } else {
        entries.insert(owner.digest, Entry { owner, carts });
    }
}
