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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shopper::carts::rules::{CartId, CartName, Currency, Market};

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(hours.saturating_mul(60 * 60), 0).expect("in range")
    }

    fn owner(number: u16) -> Owner {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Owner { digest: Digest::from_bytes(bytes), is_anonymous: true }
    }

    fn id() -> CartId {
        CartId::new(1).expect("an id")
    }

    fn open(carts: &MemoryCarts, number: u16, now: DateTime<Utc>) -> Result<(), CartRefusal> {
        carts.change(owner(number), now, |carts| {
            let currency = Currency::new("EUR", "€")?;
            carts.open(CartName::parse("Default")?, Market::parse("DE")?, currency, id(), now).map(drop)
        })
    }

    #[test]
    fn capacity_limits_the_owners_with_carts() {
        let carts = MemoryCarts::new(2);
        let refused: Result<(), _> = carts.change(owner(9), at(0), |_| Err(CartRefusal::NoSuchCart));
        assert_eq!(refused, Err(CartRefusal::NoSuchCart));
        assert_eq!(carts.change(owner(8), at(0), |carts| Ok(carts.all().len())), Ok(0));
        assert_eq!([1, 2, 3, 1].map(|number| open(&carts, number, at(0)).is_ok()), [true, true, false, true]);
        let customer = Owner { is_anonymous: false, ..owner(4) };
        assert!(carts.migrate(owner(1), customer, at(0)).is_ok(), "the customer takes the anonymous owner's entry");
        assert_eq!(carts.anonymous_owners(), 1);
        assert_eq!(open(&carts, 3, at(0)), Err(CartRefusal::Full));
        carts.forget(customer.digest);
        assert_eq!(open(&carts, 3, at(0)), Ok(()), "a forgotten owner is replaced");
        assert!(carts.change(owner(2), at(0), |carts| carts.delete(id())).is_ok());
        assert_eq!(open(&carts, 5, at(0)), Ok(()), "an owner whose last cart is deleted is replaced");
    }

    #[test]
    fn sweep_of_several_batches_reaches_every_owner() {
        let carts = MemoryCarts::new(10_000);
        for number in 0..2500 {
            open(&carts, number, at(i64::from(number % 2))).expect("the cart opens");
        }
        let (mut last, mut batches) = (None, 0);
        while let Some(next) = carts.sweep_some(last, at(30 * 24)) {
            (last, batches) = (Some(next), batches + 1);
        }
        assert_eq!((batches, carts.anonymous_owners()), (3, 1250));
    }
}
