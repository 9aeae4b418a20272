//! Carts in memory, behind one lock: what is done while it is held takes microseconds, and nothing awaits.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use super::{Owner, changed};
use crate::digest::Digest;
use crate::domain::cart::{CartRefusal, Carts};

/// How many owners a sweep looks at before it steps aside.
const SWEEP_BATCH: usize = 1000;

/// Carts that live and die with the process.
#[derive(Debug)]
pub(super) struct MemoryCarts {
    capacity: usize,
    /// In order, so that a sweep finds where it was.
    kept: Mutex<BTreeMap<Digest, Kept>>,
}

#[derive(Debug)]
struct Kept {
    owner: Owner,
    carts: Carts,
}

impl MemoryCarts {
    /// For so many owners at most.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, kept: Mutex::default() }
    }

    pub(super) fn anonymous(&self) -> usize {
        self.lock().values().filter(|kept| kept.owner.is_anonymous).count()
    }

    pub(super) fn of(&self, owner: Owner, now: DateTime<Utc>) -> Carts {
        current(&self.lock(), owner, now)
    }

    pub(super) fn change<T>(
        &self,
        owner: Owner,
        now: DateTime<Utc>,
        change: impl FnOnce(&mut Carts) -> Result<T, CartRefusal>,
    ) -> Result<T, CartRefusal> {
        let mut kept = self.lock();
        let (after, done) = changed(&current(&kept, owner, now), change);
        let is_one_too_many = !after.is_empty() && !kept.contains_key(&owner.digest) && kept.len() >= self.capacity;
        if is_one_too_many {
            return done.and(Err(CartRefusal::Full));
        }
        keep(&mut kept, owner, after);
        done
    }

    pub(super) fn migrate(&self, from: Owner, to: Owner, now: DateTime<Utc>) -> Result<Carts, CartRefusal> {
        let mut kept = self.lock();
        let mut carts = current(&kept, to, now);
        if from != to {
            carts.merge(current(&kept, from, now), now)?;
            // Whoever is new here takes the place of whom they were: there is always room.
            keep(&mut kept, from, Carts::default());
            keep(&mut kept, to, carts.clone());
        }
        Ok(carts)
    }

    pub(super) fn forget(&self, owner: Digest) {
        self.lock().remove(&owner);
    }

    /// Lets go of what has ended, of some owners behind the one that was reached; whom it has reached now, unless there are no more.
    pub(super) fn sweep_some(&self, reached: Option<Digest>, now: DateTime<Utc>) -> Option<Digest> {
        let mut kept = self.lock();
        let behind = (reached.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let (mut last, mut ended) = (None, Vec::new());
        for (digest, Kept { owner, carts }) in kept.range_mut(behind).take(SWEEP_BATCH) {
            *carts = owner.current(std::mem::take(carts), now);
            if carts.is_empty() {
                ended.push(*digest);
            }
            last = Some(*digest);
        }
        for digest in ended {
            kept.remove(&digest);
        }
        last
    }

    /// How many owners there are.
    #[cfg(test)]
    pub(super) fn owners(&self) -> usize {
        self.lock().len()
    }

    /// A panic while the lock was held does not stop the others: what is kept is replaced as a whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn current(kept: &BTreeMap<Digest, Kept>, owner: Owner, now: DateTime<Utc>) -> Carts {
    kept.get(&owner.digest).map_or_else(Carts::default, |kept| owner.current(kept.carts.clone(), now))
}

fn keep(kept: &mut BTreeMap<Digest, Kept>, owner: Owner, carts: Carts) {
    if carts.is_empty() {
        kept.remove(&owner.digest);
    } else {
        kept.insert(owner.digest, Kept { owner, carts });
    }
}
