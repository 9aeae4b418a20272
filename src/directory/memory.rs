//! The directory in memory. It is lost when the process ends.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use chrono::{DateTime, Utc};

use super::change::{AuditEntry, Change, Issued, IssuedToken, Outcome, Refusal, put_registration};
use super::model::{Kind, Link, Profile};
use super::{DirectoryError, Registration};
use crate::digest::Digest;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::{Account, Holder};

/// The maximum number of audit entries.
const MAX_AUDIT_ENTRIES: usize = 10_000;
/// The maximum number of tokens that one call of [`IssuedTokens::sweep_some`] deletes.
const SWEEP_BATCH: usize = 100;

/// All tables under one lock, which is never held across an await.
#[derive(Default)]
pub(super) struct MemoryDirectory(RwLock<Tables>);

#[derive(Default)]
struct Tables {
    stores: BTreeMap<StoreId, Arc<Store>>,
    shoppers: BTreeMap<VisitorId, Profile>,
    registrations: BTreeMap<(Kind, Digest), Link>,
    customers: BTreeMap<Digest, VisitorId>,
    issued: IssuedTokens,
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
            Some(profile) if !link.revoked => Registration::Active {
                holder: Holder { shopper: Arc::clone(&profile.shopper), device: link.device.clone() },
                channel: link.channel,
            },
            _ => Registration::Revoked,
        })
    }

    /// A recognition token, registered or issued.
    pub(super) fn token(&self, digest: Digest, now: DateTime<Utc>) -> Option<Registration> {
        self.registration(Kind::RecognitionToken, digest).or_else(|| {
            let tables = self.tables();
            let token = tables.issued.find(digest, now)?;
            let profile = tables.shoppers.get(&token.shopper)?;
            let holder = Holder { shopper: Arc::clone(&profile.shopper), device: token.device.clone() };
            Some(Registration::Active { holder, channel: None })
        })
    }

    pub(super) fn promised_until(&self, digest: Digest, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.tables().issued.find(digest, now).map(|token| token.promised_until)
    }

    pub(super) fn issue(&self, token: IssuedToken, at_most: usize, now: DateTime<Utc>) -> Issued {
        let mut tables = self.tables_mut();
        if let Some(refusal) = tables.refusal(&token.shopper, token.device.as_ref()) {
            // The request is for this shopper, so an unknown one is "not found".
            let is_unknown = refusal == Refusal::UnknownShopper;
            return Issued::Refused(if is_unknown { Refusal::NotFound } else { refusal });
        }
        tables.issued.issue(token, at_most, now);
        Issued::Done
    }

    /// Removes some expired issued tokens, and returns whether there may be more.
    pub(super) fn sweep_some(&self, now: DateTime<Utc>) -> bool {
        self.tables_mut().issued.sweep_some(now)
    }

    pub(super) fn customer(&self, customer: Digest) -> Option<VisitorId> {
        self.tables().customers.get(&customer).cloned()
    }

    pub(super) fn customers(&self, after: Option<Digest>, limit: usize) -> Vec<(Digest, VisitorId)> {
        page(&self.tables().customers, after, limit, |digest, shopper| (*digest, shopper.clone()))
    }

    pub(super) fn customers_of(&self, shopper: &VisitorId) -> Vec<Digest> {
        let tables = self.tables();
        tables.customers.iter().filter(|(_, of)| *of == shopper).map(|(customer, _)| *customer).collect()
    }

    pub(super) fn shopper_of(&self, customer: Digest) -> Option<Profile> {
        let tables = self.tables();
        tables.shoppers.get(tables.customers.get(&customer)?).cloned()
    }

    pub(super) fn link_or_create(
        &self,
        customer: Digest,
        new: VisitorId,
        now: DateTime<Utc>,
    ) -> Result<VisitorId, DirectoryError> {
        let mut tables = self.tables_mut();
        if let Some(shopper) = tables.customers.get(&customer) {
            return Ok(shopper.clone());
        }
        if tables.shoppers.contains_key(&new) {
            return Err(DirectoryError::Unavailable("the id for the new shopper is already in use".to_owned()));
        }
        tables.apply(Change::PutShopper(Profile::new(new.clone())), now);
        tables.apply(Change::LinkCustomer(customer, new.clone()), now);
        Ok(new)
    }

    pub(super) fn shortest_window(&self) -> Option<ScanKeyWindow> {
        let tables = self.tables();
        let enabled = tables.stores.values().filter(|store| store.enabled);
        enabled.map(|store| store.scan_key_window).min_by_key(|window| window.seconds())
    }

    pub(super) fn link(&self, kind: Kind, digest: Digest) -> Option<Link> {
        self.tables().registrations.get(&(kind, digest)).cloned()
    }

    pub(super) fn profile(&self, id: &VisitorId) -> Option<Profile> {
        self.tables().shoppers.get(id).cloned()
    }

    pub(super) fn devices(&self, shoppers: Vec<VisitorId>) -> HashMap<VisitorId, Vec<DeviceId>> {
        let tables = self.tables();
        let devices = |id: VisitorId| {
            let devices = tables.shoppers.get(&id)?.devices.clone();
            Some((id, devices))
        };
        shoppers.into_iter().filter_map(devices).collect()
    }

    pub(super) fn stores(&self, after: Option<StoreId>, limit: usize) -> Vec<Store> {
        page(&self.tables().stores, after, limit, |_, store| Store::clone(store))
    }

    pub(super) fn shoppers(&self, after: Option<VisitorId>, limit: usize) -> Vec<Profile> {
        page(&self.tables().shoppers, after, limit, |_, profile| profile.clone())
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
        let mut tables = self.tables_mut();
        changes.into_iter().map(|change| tables.apply(change, now)).collect()
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn apply(&mut self, change: Change, now: DateTime<Utc>) -> Outcome {
        let entry = change.audit();
        let lost = match &change {
            Change::PutShopper(new) => self.detach_devices(new),
            _ => Vec::new(),
        };
        let outcome = self.change(change);
        if outcome == Outcome::Changed {
            self.add_audit_entry(entry, now);
            lost.into_iter().for_each(|registration| self.add_audit_entry(registration, now));
        }
        outcome
    }

    fn add_audit_entry(&mut self, (action, kind, subject): (&'static str, &'static str, String), now: DateTime<Utc>) {
        self.last_audited = self.last_audited.saturating_add(1);
        let (action, kind) = (action.to_owned(), kind.to_owned());
        self.audit.push_back(AuditEntry { id: self.last_audited, at: now, action, kind, subject });
        if self.audit.len() > MAX_AUDIT_ENTRIES {
            self.audit.pop_front();
        }
    }

    /// Detaches the devices that a shopper loses from their keys and tokens. Returns the audit entries of those keys
    /// and tokens.
    fn detach_devices(&mut self, Profile { shopper, devices }: &Profile) -> Vec<(&'static str, &'static str, String)> {
        let id = &shopper.visitor.id;
        let Some(before) = self.shoppers.get(id) else { return Vec::new() };
        if before.devices.iter().all(|device| devices.contains(device)) {
            return Vec::new();
        }
        self.issued.remove_devices_of(id, devices);
        let mut lost = Vec::new();
        for ((kind, digest), link) in &mut self.registrations {
            let is_lost = link.device.as_ref().is_some_and(|device| !devices.contains(device));
            if is_lost && link.shopper.as_ref() == Some(id) {
                link.device = None;
                lost.push(put_registration(*kind, digest));
            }
        }
        lost
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
                let same = self.shoppers.get(&id) == Some(&new);
                self.shoppers.insert(id, new);
                changed(!same)
            }
            Change::SetAccount(id, account) => self.set_account(&id, account),
            Change::EraseShopper { id, pseudonym } => {
                let existed = self.shoppers.remove(&id).is_some();
                self.registrations.retain(|_, link| link.shopper.as_ref() != Some(&id));
                self.customers.retain(|_, shopper| *shopper != id);
                self.issued.remove_all_of(&id);
                let its = self.audit.iter_mut().filter(|entry| entry.kind == "shopper" && entry.subject == id.as_str());
                its.for_each(|entry| entry.subject = pseudonym.as_str().to_owned());
                found(existed)
            }
            Change::PutRegistration(kind, digest, link) => self.register(kind, digest, link),
            Change::Revoke(kind, digest) => match self.registrations.get_mut(&(kind, digest)) {
                Some(link) => changed(!std::mem::replace(&mut link.revoked, true)),
                None => Outcome::Refused(Refusal::NotFound),
            },
            Change::DeleteRegistration(kind, digest) => found(self.registrations.remove(&(kind, digest)).is_some()),
            Change::LinkCustomer(digest, shopper) => match self.refusal(&shopper, None) {
                Some(refusal) => Outcome::Refused(refusal),
                None => changed(self.customers.insert(digest, shopper.clone()) != Some(shopper)),
            },
            Change::UnlinkCustomer(digest) => found(self.customers.remove(&digest).is_some()),
        }
    }

    /// Why a key, token or customer cannot name this shopper and device.
    fn refusal(&self, shopper: &VisitorId, device: Option<&DeviceId>) -> Option<Refusal> {
        match self.shoppers.get(shopper) {
            None => Some(Refusal::UnknownShopper),
            Some(profile) => device.filter(|device| !profile.devices.contains(device)).map(|_| Refusal::UnknownDevice),
        }
    }

    fn set_account(&mut self, id: &VisitorId, account: Account) -> Outcome {
        let Some(Profile { shopper, .. }) = self.shoppers.get_mut(id) else {
            return Outcome::Refused(Refusal::NotFound);
        };
        let same = shopper.account == account;
        Arc::make_mut(shopper).account = account;
        changed(!same)
    }

    fn register(&mut self, kind: Kind, digest: Digest, link: Link) -> Outcome {
        let shopper = link.shopper.as_ref();
        if let Some(refusal) = shopper.and_then(|shopper| self.refusal(shopper, link.device.as_ref())) {
            return Outcome::Refused(refusal);
        }
        let same = self.registrations.get(&(kind, digest)) == Some(&link);
        self.registrations.insert((kind, digest), link);
        changed(!same)
    }
}

/// Up to `limit` rows of a table in the order of their keys, starting after `after`.
fn page<K: Ord, V, T>(rows: &BTreeMap<K, V>, after: Option<K>, limit: usize, read: fn(&K, &V) -> T) -> Vec<T> {
    let after = after.map_or(Bound::Unbounded, Bound::Excluded);
    rows.range((after, Bound::Unbounded)).take(limit).map(|(key, row)| read(key, row)).collect()
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
            .field("customers", &tables.customers.len())
            .field("issued", &tables.issued.len())
            .finish_non_exhaustive()
    }
}

/// Issued recognition tokens by digest, with indexes by shopper and by expiry.
#[derive(Default)]
struct IssuedTokens {
    tokens: HashMap<Digest, IssuedToken>,
    by_shopper: BTreeSet<(VisitorId, DateTime<Utc>, Digest)>,
    by_expiry: BTreeSet<(DateTime<Utc>, Digest)>,
}

impl IssuedTokens {
    /// The token of that digest, unless it has expired.
    fn find(&self, digest: Digest, now: DateTime<Utc>) -> Option<&IssuedToken> {
        self.tokens.get(&digest).filter(|token| token.expires_at > now)
    }

    /// Adds a token. Removes expired tokens of its shopper, and the oldest ones above `at_most`.
    fn issue(&mut self, token: IssuedToken, at_most: usize, now: DateTime<Utc>) {
        let others = self.tokens_of(&token.shopper); // the oldest first
        let too_many = others.len().saturating_sub(at_most.saturating_sub(1));
        for (number, (expires_at, digest)) in others.into_iter().enumerate() {
            if number < too_many || expires_at <= now {
                self.remove(digest);
            }
        }
        self.by_shopper.insert((token.shopper.clone(), token.expires_at, token.digest));
        self.by_expiry.insert((token.expires_at, token.digest));
        self.tokens.insert(token.digest, token);
    }

    /// Removes all tokens of a shopper.
    fn remove_all_of(&mut self, shopper: &VisitorId) {
        for (_, digest) in self.tokens_of(shopper) {
            self.remove(digest);
        }
    }

    /// Removes a shopper's tokens for devices that are not in `others_than`.
    fn remove_devices_of(&mut self, shopper: &VisitorId, others_than: &[DeviceId]) {
        for (_, digest) in self.tokens_of(shopper) {
            let device = self.tokens.get(&digest).and_then(|token| token.device.as_ref());
            if device.is_some_and(|device| !others_than.contains(device)) {
                self.remove(digest);
            }
        }
    }

    /// Removes some expired tokens, and returns whether there may be more.
    fn sweep_some(&mut self, now: DateTime<Utc>) -> bool {
        let expired = self.by_expiry.iter().take_while(|(expires_at, _)| *expires_at <= now).take(SWEEP_BATCH);
        let expired: Vec<_> = expired.map(|(_, digest)| *digest).collect();
        expired.iter().for_each(|digest| self.remove(*digest));
        expired.len() == SWEEP_BATCH
    }

    fn len(&self) -> usize {
        self.tokens.len()
    }

    fn tokens_of(&self, shopper: &VisitorId) -> Vec<(DateTime<Utc>, Digest)> {
        let least = (shopper.clone(), DateTime::<Utc>::MIN_UTC, Digest::from_bytes([0; 32]));
        let tokens = self.by_shopper.range(least..).take_while(|(owner, ..)| owner == shopper);
        tokens.map(|(_, expires_at, digest)| (*expires_at, *digest)).collect()
    }

    fn remove(&mut self, digest: Digest) {
        if let Some(IssuedToken { shopper, expires_at, .. }) = self.tokens.remove(&digest) {
            self.by_shopper.remove(&(shopper, expires_at, digest));
            self.by_expiry.remove(&(expires_at, digest));
        }
    }
}
