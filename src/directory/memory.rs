//! The directory in memory: gone with the process.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use chrono::{DateTime, Utc};

use super::Registration;
use super::change::{AuditEntry, Change, Kind, Link, Outcome, Profile, Refusal};
use crate::digest::Digest;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::store::Store;
use crate::domain::visitor::{Account, Holder, Shopper};

/// How many changes are remembered.
const AUDITED: usize = 10_000;

/// Everything under one lock, which nobody holds across an await.
#[derive(Default)]
pub(super) struct MemoryDirectory(RwLock<Tables>);

#[derive(Default)]
struct Tables {
    stores: BTreeMap<StoreId, Arc<Store>>,
    shoppers: BTreeMap<VisitorId, (Arc<Shopper>, Vec<DeviceId>)>,
    registrations: BTreeMap<(Kind, Digest), Link>,
    audit: VecDeque<AuditEntry>,
    last_audited: i64,
}

impl MemoryDirectory {
    pub(super) fn store(&self, id: &StoreId) -> Option<Arc<Store>> {
        self.tables().stores.get(id).cloned()
    }

    pub(super) fn registration(&self, kind: Kind, digest: Digest) -> Option<Registration> {
        let tables = self.tables();
        let link = tables.registrations.get(&(kind, digest))?;
        let shopper = link.shopper.as_ref().and_then(|id| tables.shoppers.get(id));
        Some(match shopper {
            Some((shopper, _)) if !link.revoked => Registration::Active {
                holder: Holder { shopper: Arc::clone(shopper), device: link.device.clone() },
                channel: link.channel,
            },
            _ => Registration::Revoked,
        })
    }

    pub(super) fn link(&self, kind: Kind, digest: Digest) -> Option<Link> {
        self.tables().registrations.get(&(kind, digest)).cloned()
    }

    pub(super) fn profile(&self, id: &VisitorId) -> Option<Profile> {
        self.tables().profile(id)
    }

    pub(super) fn devices(&self, shoppers: Vec<VisitorId>) -> HashMap<VisitorId, Vec<DeviceId>> {
        let tables = self.tables();
        let devices = |id: VisitorId| tables.shoppers.get(&id).map(|(_, devices)| (id.clone(), devices.clone()));
        shoppers.into_iter().filter_map(devices).collect()
    }

    pub(super) fn stores(&self, after: Option<&StoreId>, limit: usize) -> Vec<Store> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let stores = tables.stores.range::<StoreId, _>((after, Bound::Unbounded)).take(limit);
        stores.map(|(_, store)| Store::clone(store)).collect()
    }

    pub(super) fn shoppers(&self, after: Option<&VisitorId>, limit: usize) -> Vec<Profile> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.tables();
        let shoppers = tables.shoppers.range::<VisitorId, _>((after, Bound::Unbounded)).take(limit);
        shoppers.map(|(_, (shopper, devices))| profile(shopper, devices)).collect()
    }

    pub(super) fn registrations(&self, kind: Kind, after: Option<Digest>, limit: usize) -> Vec<(Digest, Link)> {
        let least = (kind, Digest::from_bytes([0; 32]));
        let after = after.map_or(Bound::Included(least), |after| Bound::Excluded((kind, after)));
        let tables = self.tables();
        let all = tables.registrations.range((after, Bound::Unbounded)).take_while(|((its, _), _)| *its == kind);
        all.take(limit).map(|((_, digest), link)| (*digest, link.clone())).collect()
    }

    pub(super) fn audit(&self, before: Option<i64>, limit: usize) -> Vec<AuditEntry> {
        let tables = self.tables();
        let older = tables.audit.iter().rev().filter(|entry| before.is_none_or(|before| entry.id < before));
        older.take(limit).cloned().collect()
    }

    pub(super) fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Vec<Outcome> {
        let mut tables = self.0.write().unwrap_or_else(PoisonError::into_inner);
        changes.into_iter().map(|change| tables.apply(change, now)).collect()
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn profile(&self, id: &VisitorId) -> Option<Profile> {
        self.shoppers.get(id).map(|(shopper, devices)| profile(shopper, devices))
    }

    fn apply(&mut self, change: Change, now: DateTime<Utc>) -> Outcome {
        let remembered = change.audit();
        let outcome = self.change(change);
        if outcome == Outcome::Changed {
            let (action, kind, subject) = remembered;
            self.last_audited = self.last_audited.saturating_add(1);
            let (action, kind) = (action.to_owned(), kind.to_owned());
            self.audit.push_back(AuditEntry { id: self.last_audited, at: now, action, kind, subject });
            if self.audit.len() > AUDITED {
                self.audit.pop_front();
            }
        }
        outcome
    }

    fn change(&mut self, change: Change) -> Outcome {
        match change {
            Change::PutStore(store) => {
                let same = self.stores.get(&store.id).is_some_and(|before| **before == store);
                self.stores.insert(store.id.clone(), Arc::new(store));
                changed(!same)
            }
            Change::DeleteStore(id) => found(self.stores.remove(&id).is_some()),
            Change::PutShopper(new) => {
                let id = new.shopper.visitor.id.clone();
                let same = self.profile(&id).is_some_and(|before| before == new);
                self.shoppers.insert(id, (Arc::new(new.shopper), new.devices));
                changed(!same)
            }
            Change::SetAccount(id, account) => self.set_account(&id, account),
            Change::EraseShopper { id, pseudonym } => {
                let known = self.shoppers.remove(&id).is_some();
                self.registrations.retain(|_, link| link.shopper.as_ref() != Some(&id));
                let its = self.audit.iter_mut().filter(|entry| entry.kind == "shopper" && entry.subject == id.as_str());
                its.for_each(|entry| entry.subject = pseudonym.as_str().to_owned());
                found(known)
            }
            Change::PutRegistration(kind, digest, link) => self.register(kind, digest, link),
            Change::Revoke(kind, digest) => match self.registrations.get_mut(&(kind, digest)) {
                Some(link) => changed(!std::mem::replace(&mut link.revoked, true)),
                None => Outcome::Refused(Refusal::NotFound),
            },
            Change::DeleteRegistration(kind, digest) => found(self.registrations.remove(&(kind, digest)).is_some()),
        }
    }

    fn set_account(&mut self, id: &VisitorId, account: Account) -> Outcome {
        let Some((shopper, _)) = self.shoppers.get_mut(id) else { return Outcome::Refused(Refusal::NotFound) };
        let same = shopper.account == account;
        *shopper = Arc::new(Shopper { account, ..Shopper::clone(shopper) });
        changed(!same)
    }

    fn register(&mut self, kind: Kind, digest: Digest, link: Link) -> Outcome {
        if let Some(shopper) = &link.shopper {
            let Some((_, devices)) = self.shoppers.get(shopper) else {
                return Outcome::Refused(Refusal::UnknownShopper);
            };
            if link.device.as_ref().is_some_and(|device| !devices.contains(device)) {
                return Outcome::Refused(Refusal::UnknownDevice);
            }
        }
        let same = self.registrations.get(&(kind, digest)) == Some(&link);
        self.registrations.insert((kind, digest), link);
        changed(!same)
    }
}

fn profile(shopper: &Shopper, devices: &[DeviceId]) -> Profile {
    Profile { shopper: shopper.clone(), devices: devices.to_vec() }
}

fn changed(is: bool) -> Outcome {
    if is { Outcome::Changed } else { Outcome::Unchanged }
}

fn found(is: bool) -> Outcome {
    if is { Outcome::Changed } else { Outcome::Refused(Refusal::NotFound) }
}

impl fmt::Debug for MemoryDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables();
        f.debug_struct("MemoryDirectory")
            .field("stores", &tables.stores.len())
            .field("shoppers", &tables.shoppers.len())
            .field("registrations", &tables.registrations.len())
            .finish_non_exhaustive()
    }
}
