//! The directory in memory: loaded once, then only read.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::Registration;
use crate::digest::{Digest, HashKey};
use crate::domain::ids::StoreId;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::Store;

/// Stores by their names; keys and tokens by their digests, which never meet, since each kind is hashed for its purpose.
pub struct MemoryDirectory {
    pub(super) hash_key: HashKey,
    pub(super) stores: HashMap<StoreId, Arc<Store>>,
    pub(super) registrations: HashMap<Digest, Registration>,
}

impl MemoryDirectory {
    pub(super) fn store(&self, id: &StoreId) -> Option<Arc<Store>> {
        self.stores.get(id).cloned()
    }

    pub(super) fn identity_key(&self, key: &str) -> Option<Registration> {
        self.registrations.get(&self.hash_key.identity_key(key)).cloned()
    }

    pub(super) fn recognition_token(&self, token: &RecognitionToken) -> Option<Registration> {
        self.registrations.get(&self.hash_key.recognition_token(token)).cloned()
    }

    /// How many stores there are.
    #[must_use]
    pub fn stores(&self) -> usize {
        self.stores.len()
    }

    /// How many keys and tokens there are.
    #[must_use]
    pub fn registrations(&self) -> usize {
        self.registrations.len()
    }
}

impl fmt::Debug for MemoryDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDirectory")
            .field("stores", &self.stores.len())
            .field("registrations", &self.registrations.len())
            .finish()
    }
}
