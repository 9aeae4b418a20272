//! The directory in a database, with a cache for scans.
//!
//! Unknown keys are never cached: made-up keys would fill the cache, and a new key would not be accepted immediately.
//!
//! Shopper apps use connections of their own and no cache: they ask rarely, and no gate waits for them.

mod changes;
mod tables;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::any::{Any, AnyArguments, AnyRow};
use sqlx::{AnyConnection, AssertSqlSafe, query, query_scalar};
use tokio::time::Instant;

use super::change::AuditEntry;
use super::model::{Kind, Link, Profile};
use super::{DirectoryError, Registration};
use crate::breaker::Subject;
use crate::cache::GenerationCache;
use crate::digest::Digest;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::store::{ScanKeyWindow, Store};
use crate::storage::{Database, DatabaseError, Engine, from_nanos, to_nanos};
use tables::{ISSUED, REGISTERED, select_profiles, select_stores};

/// How long cached rows are used after the last check for changes by other connectors. A change takes effect everywhere
/// within this time.
const FRESH_FOR: Duration = Duration::from_secs(2);

type Result<T, E = DirectoryError> = std::result::Result<T, E>;
type Query = query::Query<'static, Any, AnyArguments>;

/// Stores, shoppers, keys, tokens and customers in tables.
#[derive(Debug)]
pub(super) struct SqlDirectory {
    database: Database,
    stores: GenerationCache<StoreId, Arc<Store>>,
    registrations: GenerationCache<(Kind, Digest), Registration>,
    /// Until when cached rows may be used. Not needed with SQLite, as no other connector uses the file.
    fresh_until: Mutex<Option<Instant>>,
    seen: SeenVersions,
}

/// The numbers of `directory_version` as they were last seen.
#[derive(Debug, Default)]
struct SeenVersions {
    version: AtomicI64,
    erasures: AtomicI64,
}

/// The look-ups of scans.
impl SqlDirectory {
    pub(super) fn new(database: Database) -> Self {
        Self {
            database,
            stores: GenerationCache::default(),
            registrations: GenerationCache::default(),
            fresh_until: Mutex::default(),
            seen: SeenVersions::default(),
        }
    }

    pub(super) async fn store(&self, id: &StoreId, subject: Subject) -> Result<Option<Arc<Store>>> {
        let generation = self.stores.generation();
        if let Some(store) = self.stores.find(id).filter(|_| self.is_fresh()) {
            return Ok(Some(store));
        }
        let name = id.clone();
        let read = self.database.read(subject, |connection| Box::pin(find_store(connection, name)));
        let store = read.await?.map(Arc::new);
        if let Some(store) = &store {
            self.stores.insert(id.clone(), generation, Arc::clone(store));
        }
        Ok(store)
    }

    pub(super) async fn identity_key(&self, digest: Digest, subject: Subject) -> Result<Option<Registration>> {
        let query = query::<Any>(REGISTERED).bind(bytes(digest)).bind(Kind::IdentityKey.as_str());
        self.registration((Kind::IdentityKey, digest), query, subject).await
    }

    pub(super) async fn recognition_token(
        &self,
        digest: Digest,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<Registration>> {
        let sql = format!("{REGISTERED} UNION ALL {ISSUED} ORDER BY issued LIMIT 1");
        let query = query::<Any>(AssertSqlSafe(sql)).bind(bytes(digest)).bind(Kind::RecognitionToken.as_str());
        self.registration((Kind::RecognitionToken, digest), query.bind(to_nanos(now)), subject).await
    }

    async fn registration(&self, key: (Kind, Digest), query: Query, subject: Subject) -> Result<Option<Registration>> {
        let generation = self.registrations.generation();
        if let Some(registration) = self.registrations.find(&key).filter(|_| self.is_fresh()) {
            return Ok(Some(registration));
        }
        let read = self.database.read(subject, |connection| {
            Box::pin(async move { query.fetch_optional(connection).await?.as_ref().map(tables::found).transpose() })
        });
        let Some((registration, is_issued)) = read.await? else { return Ok(None) };
        // An issued token is not cached: it is used once.
        if !is_issued {
            self.registrations.insert(key, generation, registration.clone());
        }
        Ok(Some(registration))
    }

    pub(super) async fn promised_until(
        &self,
        digest: Digest,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<DateTime<Utc>>> {
        let read = self.database.read(subject, move |connection| {
            Box::pin(async move {
                let sql = "SELECT promised_until FROM issued_token WHERE digest = $1 AND expires_at > $2";
                let query = query_scalar::<Any, i64>(sql).bind(bytes(digest)).bind(to_nanos(now));
                Ok(query.fetch_optional(connection).await?.map(from_nanos))
            })
        });
        Ok(read.await?)
    }

    /// Checks for changes by other connectors, and returns whether they have erased a shopper.
    pub(super) async fn refresh(&self) -> Result<bool> {
        if self.database.engine() == Engine::Sqlite {
            return Ok(false); // no other connector uses this file
        }
        let checked_at = Instant::now();
        let query = query::<Any>("SELECT version, erasures FROM directory_version");
        let read =
            row(&self.database, query, |row| Ok((tables::number(row, "version")?, tables::number(row, "erasures")?)));
        let Some((version, erasures)) = read.await? else { return Ok(false) };
        if self.seen.version.swap(version, Ordering::AcqRel) != version {
            self.invalidate();
        }
        *self.fresh_until.lock().unwrap_or_else(PoisonError::into_inner) = checked_at.checked_add(FRESH_FOR);
        let before = self.seen.erasures.swap(erasures, Ordering::AcqRel);
        Ok(before != 0 && before != erasures)
    }

    /// Whether cached rows may be used: on a shared database, if the last check for changes is recent.
    fn is_fresh(&self) -> bool {
        self.database.engine() == Engine::Sqlite || {
            let until = *self.fresh_until.lock().unwrap_or_else(PoisonError::into_inner);
            until.is_some_and(|until| Instant::now() < until)
        }
    }

    fn invalidate(&self) {
        self.stores.invalidate();
        self.registrations.invalidate();
    }

    /// The number of cached stores, and of cached keys and tokens.
    pub(super) fn cached(&self) -> (usize, usize) {
        (self.stores.len(), self.registrations.len())
    }

    pub(super) fn max_staleness(&self) -> Duration {
        match self.database.engine() {
            Engine::Sqlite => Duration::ZERO,
            Engine::Postgres => FRESH_FOR,
        }
    }
}

/// The look-ups of shopper apps.
impl SqlDirectory {
    pub(super) async fn shopper_of(&self, customer: Digest) -> Result<Option<Profile>> {
        let sql = select_profiles!("JOIN customer c ON c.shopper_id = s.id WHERE c.digest = $1");
        row(&self.database.for_shoppers(), query::<Any>(sql).bind(bytes(customer)), tables::profile).await
    }

    pub(super) async fn shortest_window(&self) -> Result<Option<ScanKeyWindow>> {
        let sql = "SELECT scan_key_window FROM store WHERE enabled = 1 ORDER BY scan_key_window LIMIT 1";
        row(&self.database.for_shoppers(), query::<Any>(sql), tables::window).await
    }
}

/// The look-ups and lists of administration, import and export.
impl SqlDirectory {
    pub(super) async fn store_uncached(&self, id: &StoreId) -> Result<Option<Store>> {
        let id = id.clone();
        Ok(self.database.look_up(|connection| Box::pin(find_store(connection, id))).await?)
    }

    pub(super) async fn link(&self, kind: Kind, digest: Digest) -> Result<Option<Link>> {
        let sql = "SELECT shopper_id, device_id, channel, revoked FROM registration WHERE kind = $1 AND digest = $2";
        row(&self.database, query::<Any>(sql).bind(kind.as_str()).bind(bytes(digest)), tables::link).await
    }

    pub(super) async fn profile(&self, id: &VisitorId) -> Result<Option<Profile>> {
        let query = query::<Any>(select_profiles!("WHERE s.id = $1")).bind(id.as_str().to_owned());
        row(&self.database, query, tables::profile).await
    }

    pub(super) async fn devices(&self, shoppers: Vec<VisitorId>) -> Result<HashMap<VisitorId, Vec<DeviceId>>> {
        let engine = self.database.engine();
        let read = self.database.look_up(move |connection| {
            Box::pin(async move { changes::devices_of(connection, engine, shoppers.iter().collect()).await })
        });
        Ok(read.await?)
    }

    pub(super) async fn customer(&self, customer: Digest) -> Result<Option<VisitorId>> {
        Ok(self.database.look_up(move |connection| Box::pin(changes::linked(connection, customer))).await?)
    }

    pub(super) async fn customers_of(&self, shopper: &VisitorId) -> Result<Vec<Digest>> {
        let query = query::<Any>("SELECT digest FROM customer WHERE shopper_id = $1").bind(shopper.as_str().to_owned());
        rows(&self.database, query, tables::digest).await
    }

    pub(super) async fn customers(&self, after: Option<Digest>, limit: usize) -> Result<Vec<(Digest, VisitorId)>> {
        let query = query::<Any>("SELECT digest, shopper_id FROM customer WHERE digest > $1 ORDER BY digest LIMIT $2");
        let query = query.bind(after.map_or_else(Vec::new, bytes)).bind(to_limit(limit));
        rows(&self.database, query, |row| Ok((tables::digest(row)?, tables::named_shopper(row)?))).await
    }

    pub(super) async fn stores(&self, after: Option<StoreId>, limit: usize) -> Result<Vec<Store>> {
        let query = query::<Any>(select_stores!("WHERE id > $1 ORDER BY id LIMIT $2"));
        let after = after.map_or_else(String::new, |after| after.as_str().to_owned());
        rows(&self.database, query.bind(after).bind(to_limit(limit)), tables::store).await
    }

    pub(super) async fn shoppers(&self, after: Option<VisitorId>, limit: usize) -> Result<Vec<Profile>> {
        let query = query::<Any>(select_profiles!("WHERE s.id > $1 ORDER BY s.id LIMIT $2"));
        let after = after.map_or_else(String::new, |after| after.as_str().to_owned());
        rows(&self.database, query.bind(after).bind(to_limit(limit)), tables::profile).await
    }

    pub(super) async fn registrations(
        &self,
        kind: Kind,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, Link)>> {
        let query = query::<Any>(
            "SELECT digest, shopper_id, device_id, channel, revoked FROM registration
             WHERE kind = $1 AND digest > $2 ORDER BY digest LIMIT $3",
        );
        let query = query.bind(kind.as_str()).bind(after.map_or_else(Vec::new, bytes)).bind(to_limit(limit));
        rows(&self.database, query, |row| Ok((tables::digest(row)?, tables::link(row)?))).await
    }

    pub(super) async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>> {
        let query =
            query::<Any>("SELECT id, at, action, kind, subject FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2");
        let query = query.bind(before.unwrap_or(i64::MAX)).bind(to_limit(limit));
        rows(&self.database, query, tables::audit_entry).await
    }
}

/// The rows of a query that no gate waits for.
async fn rows<T: Send + 'static>(
    database: &Database,
    query: Query,
    read: fn(&AnyRow) -> Result<T, DatabaseError>,
) -> Result<Vec<T>> {
    let rows = database.look_up(move |connection| {
        Box::pin(async move { query.fetch_all(connection).await?.iter().map(read).collect() })
    });
    Ok(rows.await?)
}

/// The only row of a query that no gate waits for.
async fn row<T: Send + 'static>(
    database: &Database,
    query: Query,
    read: fn(&AnyRow) -> Result<T, DatabaseError>,
) -> Result<Option<T>> {
    Ok(rows(database, query, read).await?.pop())
}

async fn find_store(connection: &mut AnyConnection, id: StoreId) -> Result<Option<Store>, DatabaseError> {
    let found = query::<Any>(select_stores!("WHERE id = $1")).bind(id.as_str()).fetch_optional(connection).await?;
    found.as_ref().map(tables::store).transpose()
}

fn bytes(digest: Digest) -> Vec<u8> {
    digest.as_bytes().to_vec()
}

fn to_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl From<DatabaseError> for DirectoryError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy => Self::Busy,
            error => Self::Unavailable(error.to_string()),
        }
    }
}
