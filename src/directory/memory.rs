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
    pub(super) recognition_tokens: usize,
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

    /// The stores, in no order.
    pub fn stores(&self) -> impl ExactSizeIterator<Item = &Store> {
        self.stores.values().map(Arc::as_ref)
    }

    /// How many identity keys there are.
    #[must_use]
    pub fn identity_keys(&self) -> usize {
        self.registrations.len().saturating_sub(self.recognition_tokens)
    }

    /// How many recognition tokens there are.
    #[must_use]
    pub fn recognition_tokens(&self) -> usize {
        self.recognition_tokens
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
