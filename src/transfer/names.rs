//! What stands in a file, and on which line: kept as 128 bits each, so that a million rows take a few tens of megabytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash, RandomState};

use crate::digest::Digest;
use crate::directory::{Change, Kind};
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
    lines: HashMap<Name, u32>,
}

impl Names {
    pub(super) fn name(&self, named: &Named<'_>) -> Name {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(named)));
        Name((high << 64 | low).to_le_bytes())
    }

    pub(super) fn has(&self, name: Name) -> bool {
        self.lines.contains_key(&name)
    }

    /// Notes what a change puts; tells on which line it stands already, if it does.
    pub(super) fn note(&mut self, change: &Change, line: u32) -> Option<u32> {
        let name = match change {
            Change::PutStore(store) => self.name(&Named::Store(&store.id)),
            Change::PutShopper(profile) => self.name(&Named::Shopper(&profile.shopper.visitor.id)),
            Change::PutRegistration(kind, digest, _) => self.name(&Named::Registration(*kind, digest)),
            Change::LinkCustomer(digest, _) => self.name(&Named::Customer(digest)),
            _ => return None,
        };
        match self.lines.entry(name) {
            Entry::Occupied(first) => return Some(*first.get()),
            Entry::Vacant(place) => drop(place.insert(line)),
        }
        if let Change::PutShopper(profile) = change {
            for device in &profile.devices {
                let name = self.name(&Named::Device(&profile.shopper.visitor.id, device));
                self.lines.insert(name, line);
            }
        }
        None
    }
}
