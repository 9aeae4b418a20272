//! What stands in a file, and where: kept as 128 bits each, so that a million rows take a few tens of megabytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash, RandomState};

use super::spot::Spot;
use crate::digest::Digest;
use crate::directory::{Change, Kind, Profile};
use crate::domain::ids::{DeviceId, StoreId, VisitorId};

/// What can be named.
#[derive(Hash)]
pub(super) enum Named<'a> {
    Store(&'a StoreId),
    Shopper(&'a VisitorId),
    Device(&'a VisitorId, &'a DeviceId),
    Registration(Kind, &'a Digest),
    Customer(&'a Digest),
}

/// A name, as far as it takes to tell it from all others: two keyed hashes of it, under keys that nobody can know.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name([u8; 16]);

#[derive(Default)]
pub(super) struct Names {
    keys: [RandomState; 2],
    spots: HashMap<Name, Spot>,
}

impl Names {
    pub(super) fn name(&self, named: &Named<'_>) -> Name {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(named)));
        Name((high << 64 | low).to_le_bytes())
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.spots.contains_key(&name)
    }

    /// Notes a shopper and their devices; tells where the shopper stands already, if they do.
    pub(super) fn note_shopper(&mut self, Profile { shopper, devices }: &Profile, spot: Spot) -> Option<Spot> {
        let id = &shopper.visitor.id;
        let first = self.insert(self.name(&Named::Shopper(id)), spot);
        if first.is_none() {
            for device in devices {
                self.spots.insert(self.name(&Named::Device(id, device)), spot);
            }
        }
        first
    }

    fn insert(&mut self, name: Name, spot: Spot) -> Option<Spot> {
        match self.spots.entry(name) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(place) => {
                place.insert(spot);
                None
            }
        }
    }

    /// Notes what a change puts; tells where it stands already, if it does.
    pub(super) fn note(&mut self, change: &Change, spot: Spot) -> Option<Spot> {
        let name = match change {
            Change::PutStore(store) => self.name(&Named::Store(&store.id)),
            Change::PutShopper(profile) => return self.note_shopper(profile, spot),
            Change::PutRegistration(kind, digest, _) => self.name(&Named::Registration(*kind, digest)),
            Change::LinkCustomer(digest, _) => self.name(&Named::Customer(digest)),
            _ => return None,
        };
        self.insert(name, spot)
    }
}
