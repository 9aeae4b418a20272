//! Where the carts of the shopper's side are kept. What may be done to them, `domain::cart` says.
//!
//! An owner is known by a keyed hash, and all of an owner's carts are read, changed and written as one, while nobody else can: two changes
//! at the same instant come one after the other, whichever connectors make them. An owner without carts leaves no trace.

mod memory;
mod sql;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::digest::{Digest, HashKey};
use crate::domain::cart::{CartRefusal, Carts};
use crate::domain::customer::{AnonymousId, Customer};
use crate::storage::Database;
use memory::MemoryCarts;
use sql::SqlCarts;

/// Carts could not be read or written.
#[derive(Clone, Debug, Error)]
#[error("carts unavailable: {0}")]
pub struct CartsError(pub String);

/// Everybody's carts, wherever they are kept.
#[derive(Debug)]
pub struct CartStore {
    backend: Backend,
    hash_key: HashKey,
}

/// Where carts are kept.
#[derive(Debug)]
enum Backend {
    /// In this process's memory: gone with it.
    Memory(MemoryCarts),
    /// In a database.
    Sql(SqlCarts),
}

/// Whose carts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    digest: Digest,
    /// Whose carts end some time after their last change.
    is_anonymous: bool,
}

impl CartStore {
    /// An empty one in memory, for at most so many owners.
    #[must_use]
    pub fn in_memory(hash_key: HashKey, at_most: usize) -> Self {
        Self { backend: Backend::Memory(MemoryCarts::new(at_most)), hash_key }
    }

    /// The one in a database, which is asked as this handle asks: see [`Database::open_carts`]. Of anonymous owners it has about so many at
    /// most: they are counted at each sweep.
    #[must_use]
    pub fn in_database(database: Database, at_most: usize) -> Self {
        let hash_key = database.hash_key().clone();
        Self { backend: Backend::Sql(SqlCarts::new(database, at_most)), hash_key }
    }

    /// How many owners there are who have not signed in, as far as they are counted.
    #[must_use]
    pub fn anonymous(&self) -> usize {
        match &self.backend {
            Backend::Memory(carts) => carts.anonymous(),
            Backend::Sql(carts) => carts.anonymous(),
        }
    }

    /// All carts of a customer.
    ///
    /// # Errors
    /// When the store cannot tell.
    pub async fn of(&self, customer: &Customer, now: DateTime<Utc>) -> Result<Carts, CartsError> {
        let owner = self.owner(customer);
        match &self.backend {
            Backend::Memory(carts) => Ok(carts.of(owner, now)),
            Backend::Sql(carts) => carts.of(owner, now).await,
        }
    }

    /// Changes the carts of a customer in one step, in which nobody else changes them. What is refused changes nothing. `change` may
    /// not block: others wait for it.
    ///
    /// # Errors
    /// When the store cannot be read or written. Nothing is changed then, unless it was too slow to say whether it was.
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

    /// Moves the carts of somebody who has signed in to who they are now, in one step, and returns all that these have then. Asked for
    /// again, it moves what has come since.
    ///
    /// # Errors
    /// When the store cannot be read or written. Nothing is moved then, unless it was too slow to say whether it was.
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

    /// Drops all carts of a customer, by what stands for them wherever they own something: they are to be forgotten.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn forget(&self, owner: Digest) -> Result<(), CartsError> {
        match &self.backend {
            Backend::Memory(carts) => {
                carts.forget(owner);
                Ok(())
            }
            Backend::Sql(carts) => carts.forget(owner).await,
        }
    }

    /// Removes what was forgotten from the files of a database that this process has to itself.
    ///
    /// # Errors
    /// When another process keeps the files in use.
    pub async fn purge(&self) -> Result<(), CartsError> {
        match &self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::Sql(carts) => carts.purge().await,
        }
    }

    /// Lets go of anonymous carts that have ended, in small batches between which others come first. Called now and then; nothing
    /// depends on when.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn sweep(&self, now: DateTime<Utc>) -> Result<(), CartsError> {
        match &self.backend {
            Backend::Memory(carts) => {
                let mut reached = None;
                while let Some(next) = carts.sweep_some(reached, now) {
                    reached = Some(next);
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

    /// Closes its database.
    pub async fn close(&self) {
        if let Backend::Sql(carts) = &self.backend {
            carts.close().await;
        }
    }

    fn owner(&self, customer: &Customer) -> Owner {
        Owner { digest: self.hash_key.customer(customer), is_anonymous: customer.is_anonymous() }
    }
}

impl Owner {
    /// What the owner still has of what was kept.
    fn current(self, kept: Carts, now: DateTime<Utc>) -> Carts {
        if self.is_anonymous { kept.without_expired(now) } else { kept }
    }
}

/// What becomes of carts when a change is made to them, and what it says; refused, they are what they were.
fn changed<T>(
    carts: &Carts,
    change: impl FnOnce(&mut Carts) -> Result<T, CartRefusal>,
) -> (Carts, Result<T, CartRefusal>) {
    let mut after = carts.clone();
    match change(&mut after) {
        Ok(told) => (after, Ok(told)),
        Err(refusal) => (carts.clone(), Err(refusal)),
    }
}
