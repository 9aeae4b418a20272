//! The directory: stores, shoppers, their identity keys and recognition tokens, and their customer accounts at OpenID
//! providers.
//!
//! It returns facts and decides nothing. Callers pass keys and tokens as the gate sent them; the directory looks them
//! up by keyed hash. An error means that the look-up or the change failed. An unknown key is not an error.

pub(crate) mod backend;
mod change;
mod faults;
pub(crate) mod file;
mod memory;
mod model;
mod sql;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::time::Instant;

pub use backend::IdentityBackend;
pub(crate) use change::AuditEntry;
pub use change::{Change, Issued, IssuedToken, Outcome, Refusal};
pub(crate) use faults::FaultsByKey;
pub use faults::{Fault, Faults};
pub(crate) use model::{
    COLUMNS, Cell, CustomerRow, IdentityKeyRow, Problem, RecognitionTokenRow, Row, ShopperRow, StoreRow, Word,
    customer, identity_key, placeholder, recognition_token, shopper, store,
};
pub(crate) use model::{Kind, Link, Profile};

use crate::breaker::Subject;
use crate::digest::{Digest, HashKey};
use crate::domain::customer::Customer;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::{ScanKeyWindow, Store};
use crate::domain::visitor::Holder;
use crate::observe::metrics::readings;
use crate::storage::Database;
use backend::LookupRequest;
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

type Result<T> = std::result::Result<T, DirectoryError>;

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

/// The scan that causes the look-up.
#[derive(Clone, Debug)]
pub struct ScanContext {
    /// Its subject for the circuit breaker.
    pub subject: Subject,
    /// The store.
    pub store: StoreId,
    /// How the key was read, if the gate says so.
    pub channel: Option<KeyChannel>,
    /// The deadline of the scan's answer.
    pub deadline: Instant,
}

/// A directory, in memory or in a database.
#[derive(Debug)]
pub struct Directory {
    engine: Engine,
    hash_key: HashKey,
    /// Only in the demo and in tests; `serve` has none.
    faults: Option<FaultsByKey>,
    /// The identity backend, which is used for keys and tokens that this directory does not have.
    backend: Option<Box<IdentityBackend>>,
}

/// Where a directory keeps its rows.
#[derive(Debug)]
enum Engine {
    /// In this process's memory; lost when the process ends.
    Memory(MemoryDirectory),
    Sql(SqlDirectory),
}

/// Calls a method of the engine in use.
macro_rules! in_engine {
    ($directory:ident.$method:ident($($argument:expr),*)) => {
        match &$directory.engine {
            Engine::Memory(engine) => Ok(engine.$method($($argument),*)),
            Engine::Sql(engine) => engine.$method($($argument),*).await,
        }
    };
}

impl Directory {
    /// An empty directory in memory.
    pub fn in_memory(hash_key: HashKey) -> Self {
        Self::new(Engine::Memory(MemoryDirectory::default()), hash_key)
    }

    /// The directory in a database.
    pub fn in_database(database: Database) -> Self {
        let hash_key = database.hash_key().clone();
        Self::new(Engine::Sql(SqlDirectory::new(database)), hash_key)
    }

    fn new(engine: Engine, hash_key: HashKey) -> Self {
        Self { engine, hash_key, faults: None, backend: None }
    }

    /// Adds an identity backend: the retailer's own system, which is used for keys and tokens that this directory does
    /// not have.
    pub fn with_backend(self, backend: IdentityBackend) -> Self {
        Self { backend: Some(Box::new(backend)), ..self }
    }

    /// The identity backend, if one is configured.
    pub fn backend(&self) -> Option<&IdentityBackend> {
        self.backend.as_deref()
    }

    /// Adds faults that the demo's page or a test injects.
    pub fn with_faults(self, faults: FaultsByKey) -> Self {
        Self { faults: Some(faults), ..self }
    }
}

/// The look-ups of a scan: the store, and the shopper of a key or token.
///
/// The directory's own rows come first. Only keys and tokens that the directory does not have are looked up at the
/// identity backend, so the backend cannot change a registered or issued one.
impl Directory {
    /// The store with this id. `subject` is the scan's, for the circuit breaker.
    pub async fn store(&self, id: &StoreId, subject: Subject) -> Result<Option<Arc<Store>>> {
        self.inject_fault().await?;
        match &self.engine {
            // No store has such an id, and PostgreSQL would refuse the query.
            _ if id.as_str().contains('\0') => Ok(None),
            Engine::Memory(engine) => Ok(engine.store(id)),
            Engine::Sql(engine) => engine.store(id, subject).await,
        }
    }

    /// The registration of an identity key, compared exactly.
    pub async fn identity_key(&self, key: &str, context: &ScanContext) -> Result<Option<Registration>> {
        let digest = self.hash_key.identity_key(key);
        if let Some(faults) = &self.faults {
            faults.inject_for_key(&digest).await?;
        }
        let found = match &self.engine {
            Engine::Memory(engine) => engine.registration(Kind::IdentityKey, digest),
            Engine::Sql(engine) => engine.identity_key(digest, context.subject).await?,
        };
        self.or_ask_backend(found, Kind::IdentityKey, key, digest, context).await
    }

    /// The registration of a recognition token at `now`, whether it is registered or [issued](Directory::issue).
    pub async fn recognition_token(
        &self,
        token: &RecognitionToken,
        now: DateTime<Utc>,
        context: &ScanContext,
    ) -> Result<Option<Registration>> {
        self.inject_fault().await?;
        let digest = self.hash_key.recognition_token(token);
        let found = match &self.engine {
            Engine::Memory(engine) => engine.token(digest, now),
            Engine::Sql(engine) => engine.recognition_token(digest, now, context.subject).await?,
        };
        self.or_ask_backend(found, Kind::RecognitionToken, token.expose(), digest, context).await
    }

    /// The time until which an app was told that its code with this token is valid. `None` unless the token was
    /// [issued](Directory::issue) and has not expired.
    pub async fn promised_until(
        &self,
        token: &RecognitionToken,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<DateTime<Utc>>> {
        self.inject_fault().await?;
        let digest = self.hash_key.recognition_token(token);
        match &self.engine {
            Engine::Memory(engine) => Ok(engine.promised_until(digest, now)),
            Engine::Sql(engine) => engine.promised_until(digest, now, subject).await,
        }
    }

    pub(super) async fn inject_fault(&self) -> Result<()> {
        match &self.faults {
            Some(faults) => faults.inject().await,
            None => Ok(()),
        }
    }

    async fn or_ask_backend(
        &self,
        found: Option<Registration>,
        kind: Kind,
        value: &str,
        digest: Digest,
        context: &ScanContext,
    ) -> Result<Option<Registration>> {
        match &self.backend {
            Some(backend) if found.is_none() => {
                // Boxed, so that the future of a scan without an identity backend stays small.
                Box::pin(backend.look_up(LookupRequest { kind, value, digest, context })).await
            }
            _ => Ok(found),
        }
    }
}

/// Look-ups and changes for shopper apps: the shopper of a customer, and a recognition token for the app's next code.
///
/// They use database connections of their own, so that they cannot delay a gate, and never a cache.
impl Directory {
    /// The current row of the shopper that a customer is linked to, with their devices.
    pub async fn shopper_of(&self, customer: &Customer) -> Result<Option<Profile>> {
        self.inject_fault().await?;
        let customer = self.hash_key.customer(customer);
        in_engine!(self.shopper_of(customer))
    }

    /// The shopper that a customer is linked to. If there is none, creates the shopper `new`, with an active account
    /// and nothing else, and links the customer to it. Concurrent calls for one customer all return the same shopper,
    /// also at other connectors.
    ///
    /// # Errors
    /// When the directory cannot be read or changed, or the shopper id `new` is already in use.
    pub async fn link_or_create(&self, customer: &Customer, new: VisitorId, now: DateTime<Utc>) -> Result<VisitorId> {
        self.inject_fault().await?;
        let customer = self.hash_key.customer(customer);
        match &self.engine {
            Engine::Memory(engine) => engine.link_or_create(customer, new, now),
            Engine::Sql(engine) => engine.link_or_create(customer, new, now).await,
        }
    }

    /// Issues a recognition token for a shopper, and for one of their devices if the token names one. It is unknown
    /// once it has expired. A shopper has at most `at_most` issued tokens (1 or more): the oldest are deleted first.
    /// Issued tokens are in no list, no export and no audit log.
    ///
    /// Refused when there is no such shopper, or the device is not one of the shopper's.
    pub async fn issue(&self, token: IssuedToken, at_most: usize, now: DateTime<Utc>) -> Result<Issued> {
        self.inject_fault().await?;
        in_engine!(self.issue(token, at_most, now))
    }

    /// The shortest Scan Key Code window of all enabled stores: a younger code is valid at every store. `None` without
    /// an enabled store.
    pub async fn shortest_window(&self) -> Result<Option<ScanKeyWindow>> {
        self.inject_fault().await?;
        in_engine!(self.shortest_window())
    }
}

/// Look-ups and changes of administration, import and export.
impl Directory {
    /// A store as it is in the database, for administration. Unlike [`Directory::store`], this never uses the cache.
    pub async fn store_uncached(&self, id: &StoreId) -> Result<Option<Store>> {
        match &self.engine {
            Engine::Memory(engine) => Ok(engine.store(id).map(Arc::unwrap_or_clone)),
            Engine::Sql(engine) => engine.store_uncached(id).await,
        }
    }

    /// The shopper, device, channel and state that a key or token is registered with.
    pub async fn link(&self, kind: Kind, digest: Digest) -> Result<Option<Link>> {
        in_engine!(self.link(kind, digest))
    }

    /// The shopper that the customer with this digest is linked to.
    pub async fn customer(&self, digest: Digest) -> Result<Option<VisitorId>> {
        in_engine!(self.customer(digest))
    }

    /// A shopper with their devices.
    pub async fn profile(&self, id: &VisitorId) -> Result<Option<Profile>> {
        in_engine!(self.profile(id))
    }

    /// The devices of these shoppers. Unknown shoppers are left out.
    pub async fn devices(&self, shoppers: Vec<VisitorId>) -> Result<HashMap<VisitorId, Vec<DeviceId>>> {
        if shoppers.is_empty() {
            return Ok(HashMap::new());
        }
        in_engine!(self.devices(shoppers))
    }

    /// Up to `limit` stores in the order of their ids, starting after `after`.
    pub async fn stores(&self, after: Option<StoreId>, limit: usize) -> Result<Vec<Store>> {
        in_engine!(self.stores(after, limit))
    }

    /// Up to `limit` shoppers in the order of their ids, starting after `after`.
    pub async fn shoppers(&self, after: Option<VisitorId>, limit: usize) -> Result<Vec<Profile>> {
        in_engine!(self.shoppers(after, limit))
    }

    /// Up to `limit` keys or tokens in the order of their digests, starting after `after`.
    pub async fn registrations(&self, kind: Kind, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, Link)>> {
        in_engine!(self.registrations(kind, after, limit))
    }

    /// The customers that are linked to a shopper.
    pub async fn customers_of(&self, shopper: &VisitorId) -> Result<Vec<Digest>> {
        in_engine!(self.customers_of(shopper))
    }

    /// Up to `limit` customers with their shoppers, in the order of the customers' digests, starting after `after`.
    pub async fn customers(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, VisitorId)>> {
        in_engine!(self.customers(after, limit))
    }

    /// Up to `limit` entries of the audit log, newest first, older than `before` if it is given.
    pub async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>> {
        in_engine!(self.audit(before, limit))
    }

    /// Makes changes in one transaction and returns the outcome of each. They take effect with the next scan of this
    /// connector, and within two seconds at other connectors on the same database.
    pub async fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<Vec<Outcome>> {
        let outcomes = in_engine!(self.apply(changes, now));
        self.clear_backend_cache(); // a shopper that is erased here must not be found in the cache
        outcomes
    }

    /// Makes any number of changes, in several transactions, and returns how many of them changed a row.
    ///
    /// # Errors
    /// When the directory cannot be changed. Earlier transactions stay committed.
    pub async fn apply_all(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<usize> {
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
    pub async fn sweep(&self, now: DateTime<Utc>) -> Result<()> {
        if let Some(backend) = &self.backend {
            backend.sweep();
        }
        loop {
            let more: Result<bool> = in_engine!(self.sweep_some(now));
            if !more? {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Checks whether other connectors have changed the shared database, and returns whether they have erased a
    /// shopper. Call it every second: cached rows are used for up to two seconds after the last check.
    pub async fn refresh(&self) -> Result<bool> {
        let erased = match &self.engine {
            Engine::Memory(_) => false,
            Engine::Sql(engine) => engine.refresh().await?,
        };
        if erased {
            self.clear_backend_cache();
        }
        Ok(erased)
    }

    /// Announces that a shopper was erased from the ledger. Within two seconds, every connector drops what it has
    /// cached of the ledger.
    pub async fn announce_erasure(&self) -> Result<()> {
        match &self.engine {
            Engine::Memory(_) => Ok(()),
            Engine::Sql(engine) => engine.announce_erasure().await,
        }
    }

    /// How long a connector may still use a row that has been changed elsewhere.
    pub fn max_staleness(&self) -> Duration {
        let here = match &self.engine {
            Engine::Memory(_) => Duration::ZERO,
            Engine::Sql(engine) => engine.max_staleness(),
        };
        here.max(self.backend.as_ref().map_or(Duration::ZERO, |backend| backend.max_staleness()))
    }

    fn clear_backend_cache(&self) {
        if let Some(backend) = &self.backend {
            backend.clear_cache();
        }
    }

    /// Adds the directory's metrics to a registry.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        readings! { registry, directory = self;
            /// Entries in the cache in front of the directory's database, by kind: stores (store), keys and tokens
            /// (key). At about 100000 entries of a kind, each new entry evicts another one.
            gauge directory_cached(kind) = {
                let (stores, registrations) = match &directory.engine {
                    Engine::Memory(_) => (0, 0),
                    Engine::Sql(engine) => engine.cached(),
                };
                [("store", stores), ("key", registrations)]
            };
        }
        backend::register(self, registry);
    }

    /// The key of the keyed hash of keys and tokens.
    pub fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }
}

#[cfg(test)]
mod tests;
