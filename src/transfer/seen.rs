//! The entities that a file has defined so far, and their positions. Each is kept as a hash of 128 bits, so that a
//! million rows take a few tens of megabytes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, Hash, RandomState};

use super::position::Position;
use crate::digest::Digest;
use crate::directory::{Change, Kind, Profile};
use crate::domain::ids::{DeviceId, StoreId, VisitorId};

/// An entity that a row defines.
#[derive(Hash)]
pub(super) enum Entity<'a> {
    Store(&'a StoreId),
    Shopper(&'a VisitorId),
    Device(&'a VisitorId, &'a DeviceId),
    Registration(Kind, &'a Digest),
    Customer(&'a Digest),
}

/// Two keyed hashes of an entity. The keys are random, so a collision cannot be constructed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntityHash([u8; 16]);

#[derive(Default)]
pub(super) struct SeenEntities {
    keys: [RandomState; 2],
    positions: HashMap<EntityHash, Position>,
}

impl SeenEntities {
    pub(super) fn hash(&self, entity: &Entity<'_>) -> EntityHash {
        let [high, low] = self.keys.each_ref().map(|key| u128::from(key.hash_one(entity)));
        EntityHash((high << 64 | low).to_le_bytes())
    }

    pub(super) fn has(&self, hash: EntityHash) -> bool {
        self.positions.contains_key(&hash)
    }

    /// Adds a shopper and their devices. Returns the earlier position if the shopper is a duplicate.
    pub(super) fn add_shopper(
        &mut self,
        Profile { shopper, devices }: &Profile,
        position: Position,
    ) -> Option<Position> {
        let id = &shopper.visitor.id;
        let earlier = self.insert(self.hash(&Entity::Shopper(id)), position);
        if earlier.is_none() {
            for device in devices {
                self.positions.insert(self.hash(&Entity::Device(id, device)), position);
            }
        }
        earlier
    }

    fn insert(&mut self, hash: EntityHash, position: Position) -> Option<Position> {
        match self.positions.entry(hash) {
            Entry::Occupied(first) => Some(*first.get()),
            Entry::Vacant(entry) => {
                entry.insert(position);
                None
            }
        }
    }

    /// Adds the entity that a change defines. Returns the earlier position if it is a duplicate.
    pub(super) fn add(&mut self, change: &Change, position: Position) -> Option<Position> {
        let hash = match change {
            Change::PutStore(store) => self.hash(&Entity::Store(&store.id)),
            Change::PutShopper(profile) => return self.add_shopper(profile, position),
            Change::PutRegistration(kind, digest, _) => self.hash(&Entity::Registration(*kind, digest)),
            Change::LinkCustomer(digest, _) => self.hash(&Entity::Customer(digest)),
            _ => return None,
        };
        self.insert(hash, position)
    }
}
