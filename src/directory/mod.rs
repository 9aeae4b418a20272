//! The directory: stores, shoppers, their identity keys and recognition tokens, and their customer accounts at OpenID
//! providers.
//!
//! It returns facts and decides nothing. Callers pass keys and tokens as the gate sent them; the directory looks them
//! up by keyed hash. An error means that the look-up failed. An unknown key is not an error.

mod apps;
mod change;
mod check;
mod faults;
pub mod file;
mod memory;
pub mod remote;
mod rows;
mod scans;
mod sql;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::registry::Registry;
use thiserror::Error;

pub use change::{AuditEntry, Change, Issued, IssuedToken, Kind, Link, Outcome, Profile, Refusal};
pub use faults::{Fault, Faults, FaultsByKey};
pub use remote::Remote;
pub use scans::ScanContext;
pub(crate) use {
    check::{Problem, customer, identity_key, recognition_token, shopper, store},
    rows::{CustomerRow, IdentityKeyRow, RecognitionTokenRow, ShopperRow, StoreRow},
};

use crate::digest::{Digest, HashKey};
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::store::Store;
use crate::domain::visitor::Holder;
use crate::metrics::readings;
use crate::storage::Database;
use memory::MemoryDirectory;
use sql::SqlDirectory;

/// The number of changes that [`Directory::apply_all`] makes in one transaction.
const BATCH: usize = 500;

/// Why looking up or changing failed.
#[derive(Clone, Debug, Error)]
pub enum DirectoryError {
    /// The database or the identity backend did not answer, or returned an error.
    #[error("directory unavailable: {0}")]
    Unavailable(String),
    /// The database or the identity backend has reached its limit of concurrent requests. It still answers other
    /// requests.
    #[error("directory busy")]
    Busy,
    /// The identity backend did not answer for this key, but answers for others. The key itself probably causes the
    /// failure.
    #[error("the directory does not answer for this key, but answers for others: {0}")]
    NoAnswerForKey(String),
}

/// The state of a registered key or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It is refused. It was valid before.
    Revoked,
    /// It identifies a shopper.
    Active {
        /// The shopper, and the device if the key identifies one.
        holder: Holder,
        /// The only channel on which it is accepted; `None` is any channel.
        channel: Option<KeyChannel>,
    },
}

/// A directory, in memory or in a database.
#[derive(Debug)]
pub struct Directory {
    backend: Backend,
    hash_key: HashKey,
    /// Only in the demo and in tests; `serve` has none.
    faults: Option<FaultsByKey>,
    /// The identity backend, which is used for keys and tokens that this directory does not have.
    remote: Option<Box<Remote>>,
}

/// The storage of a directory.
#[derive(Debug)]
enum Backend {
    /// In this process's memory; lost when the process ends.
    Memory(MemoryDirectory),
    /// In a database.
    Sql(SqlDirectory),
}

impl Directory {
    /// An empty directory in memory.
    #[must_use]
    pub fn in_memory(hash_key: HashKey) -> Self {
        Self::new(Backend::Memory(MemoryDirectory::default()), hash_key)
    }

    /// The directory in a database.
    #[must_use]
    pub fn in_database(database: Database) -> Self {
        let hash_key = database.hash_key().clone();
        Self::new(Backend::Sql(SqlDirectory::new(database)), hash_key)
    }

    fn new(backend: Backend, hash_key: HashKey) -> Self {
        Self { backend, hash_key, faults: None, remote: None }
    }

    /// Adds an identity backend: the retailer's own system, which is used for keys and tokens that this directory does
    /// not have.
    #[must_use]
    pub fn with_remote(self, remote: Remote) -> Self {
        Self { remote: Some(Box::new(remote)), ..self }
    }

    /// The identity backend, if one is configured.
    #[must_use]
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_deref()
    }

    /// Adds faults that the demo's page or a test injects.
    #[must_use]
    pub fn with_faults(self, faults: FaultsByKey) -> Self {
        Self { faults: Some(faults), ..self }
    }

    /// A store as it is in the database, for administration. Unlike [`Directory::store`], this never uses the cache.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn store_uncached(&self, id: &StoreId) -> Result<Option<Store>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.store(id).map(Arc::unwrap_or_clone)),
            Backend::Sql(directory) => directory.store_uncached(id).await,
        }
    }

    /// The shopper, device, channel and state that a key or token is registered with.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn link(&self, kind: Kind, digest: Digest) -> Result<Option<Link>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.link(kind, digest)),
            Backend::Sql(directory) => directory.link(kind, digest).await,
        }
    }

    /// The shopper that the customer with this digest is linked to.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn customer(&self, digest: Digest) -> Result<Option<VisitorId>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.customer(digest)),
            Backend::Sql(directory) => directory.customer(digest).await,
        }
    }

    /// A shopper with their devices.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn profile(&self, id: &VisitorId) -> Result<Option<Profile>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.profile(id)),
            Backend::Sql(directory) => directory.profile(id).await,
        }
    }

    /// The devices of these shoppers. Unknown shoppers are left out.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn devices(&self, shoppers: Vec<VisitorId>) -> Result<HashMap<VisitorId, Vec<DeviceId>>, DirectoryError> {
        match &self.backend {
            _ if shoppers.is_empty() => Ok(HashMap::new()),
            Backend::Memory(directory) => Ok(directory.devices(shoppers)),
            Backend::Sql(directory) => directory.devices(shoppers).await,
        }
    }

    /// Up to `limit` stores in the order of their ids, starting after `after`.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn stores(&self, after: Option<StoreId>, limit: usize) -> Result<Vec<Store>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.stores(after.as_ref(), limit)),
            Backend::Sql(directory) => directory.stores(after, limit).await,
        }
    }

    /// Up to `limit` shoppers in the order of their ids, starting after `after`.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn shoppers(&self, after: Option<VisitorId>, limit: usize) -> Result<Vec<Profile>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.shoppers(after.as_ref(), limit)),
            Backend::Sql(directory) => directory.shoppers(after, limit).await,
        }
    }

    /// Up to `limit` keys or tokens in the order of their digests, starting after `after`.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn registrations(
        &self,
        kind: Kind,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, Link)>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.registrations(kind, after, limit)),
            Backend::Sql(directory) => directory.registrations(kind, after, limit).await,
        }
    }

    /// The customers that are linked to a shopper.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn customers_of(&self, shopper: &VisitorId) -> Result<Vec<Digest>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.customers_of(shopper)),
            Backend::Sql(directory) => directory.customers_of(shopper).await,
        }
    }

    /// Up to `limit` customers with their shoppers, in the order of the customers' digests, starting after `after`.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn customers(
        &self,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, VisitorId)>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.customers(after, limit)),
            Backend::Sql(directory) => directory.customers(after, limit).await,
        }
    }

    /// Up to `limit` entries of the audit log, newest first, older than `before` if it is given.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.audit(before, limit)),
            Backend::Sql(directory) => directory.audit(before, limit).await,
        }
    }

    /// Makes changes in one transaction and returns the outcome of each. They take effect with the next scan of this
    /// connector, and within two seconds at other connectors on the same database.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub async fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<Vec<Outcome>, DirectoryError> {
        let outcomes = match &self.backend {
            Backend::Memory(directory) => Ok(directory.apply(changes, now)),
            Backend::Sql(directory) => directory.apply(changes, now).await,
        };
        self.clear_remote_cache(); // a shopper that is erased here must not be found in the cache
        outcomes
    }

    /// Makes any number of changes, in several transactions, and returns how many of them changed a row.
    ///
    /// # Errors
    /// When the directory cannot be changed. Earlier transactions stay committed.
    pub async fn apply_all(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<usize, DirectoryError> {
        let (mut rest, mut changed) = (changes.into_iter().peekable(), 0_usize);
        while rest.peek().is_some() {
            let outcomes = self.apply(rest.by_ref().take(BATCH).collect(), now).await?;
            let new = outcomes.iter().filter(|outcome| **outcome == Outcome::Changed).count();
            changed = changed.saturating_add(new);
        }
        Ok(changed)
    }

    /// Deletes issued tokens that have expired, in small batches so that scans do not wait. Called from time to time;
    /// an expired token is never accepted, whether it is deleted or not.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub async fn sweep(&self, now: DateTime<Utc>) -> Result<(), DirectoryError> {
        if let Some(remote) = &self.remote {
            remote.sweep();
        }
        loop {
            let more = match &self.backend {
                Backend::Memory(directory) => directory.sweep_some(now),
                Backend::Sql(directory) => directory.sweep_some(now).await?,
            };
            if !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Checks whether other connectors have changed the shared database, and returns whether they have erased a
    /// shopper. Call it every second: cached rows are used for up to two seconds after the last check.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn refresh(&self) -> Result<bool, DirectoryError> {
        let erased = match &self.backend {
            Backend::Memory(_) => false,
            Backend::Sql(directory) => directory.refresh().await?,
        };
        if erased {
            self.clear_remote_cache();
        }
        Ok(erased)
    }

    /// Announces that a shopper was erased from the ledger. Within two seconds, every connector drops what it has
    /// cached of the ledger.
    ///
    /// # Errors
    /// When the database cannot be changed.
    pub async fn announce_erasure(&self) -> Result<(), DirectoryError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::Sql(directory) => directory.announce_erasure().await,
        }
    }

    /// How long a connector may still use a row that has been changed elsewhere.
    #[must_use]
    pub fn max_staleness(&self) -> Duration {
        let here = match &self.backend {
            Backend::Memory(_) => Duration::ZERO,
            Backend::Sql(directory) => directory.max_staleness(),
        };
        here.max(self.remote.as_ref().map_or(Duration::ZERO, |remote| remote.max_staleness()))
    }

    fn clear_remote_cache(&self) {
        if let Some(remote) = &self.remote {
            remote.clear_cache();
        }
    }

    /// Adds the directory's metrics to a registry.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        readings! { registry, directory = self;
            /// Entries in the cache in front of the directory's database, by kind: stores (store), keys and tokens
            /// (key). At 100000 entries of a kind the cache is cleared, and look-ups are slower until it is filled
            /// again.
            gauge directory_cached(kind) = {
                let (stores, registrations) = match &directory.backend {
                    Backend::Memory(_) => (0, 0),
                    Backend::Sql(directory) => directory.cached(),
                };
                [("store", stores), ("key", registrations)]
            };
        }
        remote::register(self, registry);
    }

    /// The key of the keyed hash of keys and tokens.
    #[must_use]
    pub fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }
}

#[cfg(test)]
mod tests;
