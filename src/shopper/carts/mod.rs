//! Stores the carts of shoppers, in memory or in a database. The rules for changing carts are in [`rules`].
//!
//! An owner is identified by a keyed hash. All carts of an owner are read, changed and written together under one lock,
//! so simultaneous changes are applied one after the other, also from different connectors. An owner without carts has
//! no record.

mod memory;
pub(crate) mod rules;
mod sql;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use prometheus_client::registry::Registry;
use thiserror::Error;

use crate::digest::{Digest, HashKey};
use crate::domain::customer::{AnonymousId, Customer};
use crate::observe::metrics::readings;
use crate::shopper::carts::rules::{CartRefusal, Carts};
use crate::storage::Database;
use memory::MemoryCarts;
use sql::SqlCarts;

/// Carts could not be read or written.
#[derive(Clone, Debug, Error)]
#[error("carts unavailable: {0}")]
pub struct CartsError(pub String);

/// The carts of all owners.
#[derive(Debug)]
pub struct CartStore {
    backend: Backend,
    hash_key: HashKey,
}

/// The storage of the carts.
#[derive(Debug)]
enum Backend {
    /// In the memory of this process; lost when it ends.
    Memory(MemoryCarts),
    Sql(SqlCarts),
}

/// The owner of carts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    digest: Digest,
    /// Whether the owner is anonymous: then each cart expires some time after its last change.
    is_anonymous: bool,
}

impl CartStore {
    /// An empty store in memory, for at most `max_owners` owners.
    pub fn in_memory(hash_key: HashKey, max_owners: usize) -> Self {
        Self { backend: Backend::Memory(MemoryCarts::new(max_owners)), hash_key }
    }

    /// The store in a database, with the limits of this handle: see [`Database::open_carts`]. It takes about
    /// `max_owners` anonymous owners at most; they are counted at each sweep.
    pub fn in_database(database: Database, max_owners: usize) -> Self {
        let hash_key = database.hash_key().clone();
        Self { backend: Backend::Sql(SqlCarts::new(database, max_owners)), hash_key }
    }

    /// Adds the metrics of the carts to a registry.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        readings! { registry, carts = self;
            /// Anonymous customers with carts, as of the last sweep. At commerce.anonymous_carts further ones get a
            /// 429.
            gauge anonymous_carts = match &carts.backend {
                Backend::Memory(carts) => carts.anonymous_owners(),
                Backend::Sql(carts) => carts.anonymous.current(),
            };
        }
    }

    /// All carts of a customer.
    pub async fn get(&self, customer: &Customer, now: DateTime<Utc>) -> Result<Carts, CartsError> {
        let owner = self.owner(customer);
        match &self.backend {
            Backend::Memory(carts) => Ok(carts.get(owner, now)),
            Backend::Sql(carts) => carts.get(owner, now).await,
        }
    }

    /// Changes the carts of a customer in one step, while no other change to them can happen. A refused change changes
    /// nothing. `change` must not block: other requests wait for it.
    ///
    /// # Errors
    /// When the store cannot be read or written. Nothing has changed then, unless the error is a timeout: the change
    /// may then have been committed.
    pub async fn change<T, F>(
        &self,
        customer: &Customer,
        now: DateTime<Utc>,
        change: F,
    ) -> Result<Result<T, CartRefusal>, CartsError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Carts) -> Result<T, CartRefusal> + Send + 'static,
    {
        let owner = self.owner(customer);
        match &self.backend {
            Backend::Memory(carts) => Ok(carts.change(owner, now, change)),
            Backend::Sql(carts) => carts.change(owner, now, change).await,
        }
    }

    /// Moves the carts of a customer who has signed in from the anonymous owner to the customer, in one step, and
    /// returns all carts of the customer. A second call moves only what was added since.
    ///
    /// # Errors
    /// When the store cannot be read or written. Nothing has moved then, unless the error is a timeout: the move may
    /// then have been committed.
    pub async fn migrate(
        &self,
        from: AnonymousId,
        to: &Customer,
        now: DateTime<Utc>,
    ) -> Result<Result<Carts, CartRefusal>, CartsError> {
        let (from, to) = (self.owner(&Customer::Anonymous(from)), self.owner(to));
        match &self.backend {
            Backend::Memory(carts) => Ok(carts.migrate(from, to, now)),
            Backend::Sql(carts) => carts.migrate(from, to, now).await,
        }
    }

    /// Deletes all carts of an owner, because the customer is being erased.
    pub async fn forget(&self, owner: Digest) -> Result<(), CartsError> {
        match &self.backend {
            Backend::Memory(carts) => {
                carts.forget(owner);
                Ok(())
            }
            Backend::Sql(carts) => carts.forget(owner).await,
        }
    }

    /// Removes deleted data from the files of a database that only this process uses.
    pub async fn purge(&self) -> Result<(), CartsError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::Sql(carts) => Ok(carts.database.purge().await?),
        }
    }

    /// Deletes expired anonymous carts in small batches, so that other requests run in between. Called from time to
    /// time; no behaviour depends on the time of the call.
    pub async fn sweep(&self, now: DateTime<Utc>) -> Result<(), CartsError> {
        match &self.backend {
            Backend::Memory(carts) => {
                let mut last = None;
                while let Some(next) = carts.sweep_some(last, now) {
                    last = Some(next);
                    tokio::task::yield_now().await;
                }
            }
            Backend::Sql(carts) => {
                while carts.sweep_some(now).await? {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(())
    }

    /// Closes the database.
    pub async fn close(&self) {
        if let Backend::Sql(carts) = &self.backend {
            carts.database.close().await;
        }
    }

    fn owner(&self, customer: &Customer) -> Owner {
        Owner { digest: self.hash_key.customer(customer), is_anonymous: customer.is_anonymous() }
    }
}

impl Owner {
    /// The carts that are still valid.
    fn current(self, stored: Carts, now: DateTime<Utc>) -> Carts {
        if self.is_anonymous { stored.without_expired(now) } else { stored }
    }
}
