//! Who is known: stores, shoppers, the keys and tokens that stand for them, and the customers of OpenID providers that they are.
//!
//! The directory answers with facts and decides nothing. Keys and tokens go in as they are presented and are looked up by
//! keyed hash. An error means that the directory could not tell, never that somebody is unknown.

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
use thiserror::Error;

pub use change::{AuditEntry, Change, Issued, IssuedToken, Kind, Link, Outcome, Profile, Refusal};
pub use faults::{Fault, Faults, FaultsByKey};
pub use remote::Remote;
pub use scans::Asker;
pub(crate) use {
    check::{Problem, customer, identity_key, recognition_token, shopper, store},
    rows::{CustomerRow, IdentityKeyRow, RecognitionTokenRow, ShopperRow, StoreRow},
};

use crate::digest::{Digest, HashKey};
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::store::Store;
use crate::domain::visitor::Holder;
use crate::storage::Database;
use memory::MemoryDirectory;
use sql::SqlDirectory;

/// How many changes are made at once, when there are many.
const BATCH: usize = 500;

/// A directory could not be asked, or did not say.
#[derive(Clone, Debug, Error)]
pub enum DirectoryError {
    /// It did not answer, or said no.
    #[error("directory unavailable: {0}")]
    Unavailable(String),
    /// It answers others, as many as it can.
    #[error("directory busy")]
    Busy,
    /// It says nothing of this key, and answers for others: the key's doing, as far as anybody can tell.
    #[error("the directory does not answer for this key, but answers for others: {0}")]
    Silent(String),
}

/// What the directory knows of a key or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It was valid once.
    Revoked,
    /// It stands for somebody.
    Active {
        /// For whom.
        holder: Holder,
        /// The only channel by which it may be read, if it is limited to one.
        channel: Option<KeyChannel>,
    },
}

/// A directory, wherever it is kept.
#[derive(Debug)]
pub struct Directory {
    backend: Backend,
    hash_key: HashKey,
    /// In a demo only: the look-ups of `serve` have no switch to check.
    faults: Option<FaultsByKey>,
    /// Who is asked of keys and tokens that are not known here.
    remote: Option<Box<Remote>>,
}

/// Where directories are kept.
#[derive(Debug)]
enum Backend {
    /// In this process's memory: gone with it.
    Memory(MemoryDirectory),
    /// In a database.
    Sql(SqlDirectory),
}

impl Directory {
    /// An empty one in memory.
    #[must_use]
    pub fn in_memory(hash_key: HashKey) -> Self {
        Self::new(Backend::Memory(MemoryDirectory::default()), hash_key)
    }

    /// The one in a database.
    #[must_use]
    pub fn in_database(database: Database) -> Self {
        let hash_key = database.hash_key().clone();
        Self::new(Backend::Sql(SqlDirectory::new(database)), hash_key)
    }

    fn new(backend: Backend, hash_key: HashKey) -> Self {
        Self { backend, hash_key, faults: None, remote: None }
    }

    /// The same, which asks the retailer's own system about keys and tokens that it does not know itself.
    #[must_use]
    pub fn asking(self, remote: Remote) -> Self {
        Self { remote: Some(Box::new(remote)), ..self }
    }

    /// The retailer's own system, if it is asked.
    #[must_use]
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_deref()
    }

    /// The same, failing on command.
    #[must_use]
    pub fn with_faults(self, faults: FaultsByKey) -> Self {
        Self { faults: Some(faults), ..self }
    }

    /// A store as it is kept, for whoever looks after it: unlike [`Directory::store`], never from memory.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn kept_store(&self, id: &StoreId) -> Result<Option<Store>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.store(id).map(Arc::unwrap_or_clone)),
            Backend::Sql(directory) => directory.kept_store(id).await,
        }
    }

    /// For whom and how a key or token stands, if it is there.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn link(&self, kind: Kind, digest: Digest) -> Result<Option<Link>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.link(kind, digest)),
            Backend::Sql(directory) => directory.link(kind, digest).await,
        }
    }

    /// Which shopper the customer of that digest is.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn customer(&self, digest: Digest) -> Result<Option<VisitorId>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.customer(digest)),
            Backend::Sql(directory) => directory.customer(digest).await,
        }
    }

    /// A shopper with their devices, if they are there.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn profile(&self, id: &VisitorId) -> Result<Option<Profile>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.profile(id)),
            Backend::Sql(directory) => directory.profile(id).await,
        }
    }

    /// Those of the shoppers who are there, with their devices.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn devices(&self, shoppers: Vec<VisitorId>) -> Result<HashMap<VisitorId, Vec<DeviceId>>, DirectoryError> {
        match &self.backend {
            _ if shoppers.is_empty() => Ok(HashMap::new()),
            Backend::Memory(directory) => Ok(directory.devices(shoppers)),
            Backend::Sql(directory) => directory.devices(shoppers).await,
        }
    }

    /// Stores in the order of their ids: at most `limit`, those behind `after`.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn stores(&self, after: Option<StoreId>, limit: usize) -> Result<Vec<Store>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.stores(after.as_ref(), limit)),
            Backend::Sql(directory) => directory.stores(after, limit).await,
        }
    }

    /// Shoppers in the order of their ids: at most `limit`, those behind `after`.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn shoppers(&self, after: Option<VisitorId>, limit: usize) -> Result<Vec<Profile>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.shoppers(after.as_ref(), limit)),
            Backend::Sql(directory) => directory.shoppers(after, limit).await,
        }
    }

    /// Keys or tokens in the order of their digests: at most `limit`, those behind `after`.
    ///
    /// # Errors
    /// When the directory cannot tell.
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

    /// The customers that a shopper is.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn customers_of(&self, shopper: &VisitorId) -> Result<Vec<Digest>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.customers_of(shopper)),
            Backend::Sql(directory) => directory.customers_of(shopper).await,
        }
    }

    /// Customers in the order of their digests, and which shoppers they are: at most `limit`, those behind `after`.
    ///
    /// # Errors
    /// When the directory cannot tell.
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

    /// What was changed, the latest first: at most `limit`, older than `before` if given.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>, DirectoryError> {
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.audit(before, limit)),
            Backend::Sql(directory) => directory.audit(before, limit).await,
        }
    }

    /// Makes changes, together or not at all, and says of each what came of it. They hold for the next scan here, and within two
    /// seconds for those of other connectors on the same database.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub async fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<Vec<Outcome>, DirectoryError> {
        let outcomes = match &self.backend {
            Backend::Memory(directory) => Ok(directory.apply(changes, now)),
            Backend::Sql(directory) => directory.apply(changes, now).await,
        };
        self.forget_answers(); // whoever is erased here must not come back from there
        outcomes
    }

    /// Makes any number of changes, some at a time, and says how many of them changed something.
    ///
    /// # Errors
    /// When the directory cannot be changed; those before may have been made.
    pub async fn apply_all(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<usize, DirectoryError> {
        let (mut rest, mut changed) = (changes.into_iter().peekable(), 0_usize);
        while rest.peek().is_some() {
            let outcomes = self.apply(rest.by_ref().take(BATCH).collect(), now).await?;
            let new = outcomes.iter().filter(|outcome| **outcome == Outcome::Changed).count();
            changed = changed.saturating_add(new);
        }
        Ok(changed)
    }

    /// Lets go of the issued tokens that have expired, in small batches between which scans come first. Called now and then; nothing
    /// depends on when.
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

    /// Looks at what other connectors have changed in a shared database; says whether they have erased somebody. To be called every
    /// second: what was read is believed for two.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn refresh(&self) -> Result<bool, DirectoryError> {
        let erased = match &self.backend {
            Backend::Memory(_) => false,
            Backend::Sql(directory) => directory.refresh().await?,
        };
        if erased {
            self.forget_answers();
        }
        Ok(erased)
    }

    /// Somebody is erased from the ledger: within two seconds, every connector forgets what it remembers of it.
    ///
    /// # Errors
    /// When the others cannot be told.
    pub async fn announce_erasure(&self) -> Result<(), DirectoryError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::Sql(directory) => directory.announce_erasure().await,
        }
    }

    /// For how long others may go by what is no longer so.
    #[must_use]
    pub fn believed_for(&self) -> Duration {
        let here = match &self.backend {
            Backend::Memory(_) => Duration::ZERO,
            Backend::Sql(directory) => directory.believed_for(),
        };
        here.max(self.remote.as_ref().map_or(Duration::ZERO, |remote| remote.believed_for()))
    }

    fn forget_answers(&self) {
        if let Some(remote) = &self.remote {
            remote.forget();
        }
    }

    /// How many stores, and how many keys and tokens, are remembered in front of a database.
    #[must_use]
    pub fn cached(&self) -> (usize, usize) {
        match &self.backend {
            Backend::Memory(_) => (0, 0),
            Backend::Sql(directory) => directory.cached(),
        }
    }

    /// The key under which keys and tokens are kept.
    #[must_use]
    pub fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }
}

#[cfg(test)]
mod tests;
