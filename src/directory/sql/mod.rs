//! The directory in a database, with a cache for scans.

mod apps;
mod cache;
mod changes;
mod tables;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::any::{Any, AnyRow};
use sqlx::{AnyConnection, AssertSqlSafe, Row as _, query};
use tokio::time::Instant;

use super::change::{AuditEntry, Change, Outcome};
use super::model::{Kind, Link, Profile};
use super::{DirectoryError, Registration};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::store::Store;
use crate::storage::{Database, DatabaseError, Engine, Work};
use cache::Cache;
use tables::{ISSUED, REGISTERED, select_profiles, select_stores};

/// How long cached rows are used after the last check for changes by other connectors. A change takes effect everywhere
/// within this time.
const FRESH_FOR: Duration = Duration::from_secs(2);

type Result<T, E = DirectoryError> = std::result::Result<T, E>;

/// Stores, shoppers, keys, tokens and customers in tables.
#[derive(Debug)]
pub(super) struct SqlDirectory {
    database: Database,
    cache: Cache,
    seen: SeenVersions,
}

/// The numbers of `directory_version` as they were last seen.
#[derive(Debug)]
struct SeenVersions {
    version: AtomicI64,
    erasures: AtomicI64,
}

impl SqlDirectory {
    pub(super) fn new(database: Database) -> Self {
        let cache = Cache::new(database.engine() == Engine::Postgres);
        let seen = SeenVersions { version: AtomicI64::new(0), erasures: AtomicI64::new(0) };
        Self { database, cache, seen }
    }

    pub(super) async fn store(&self, id: &StoreId, subject: Subject) -> Result<Option<Arc<Store>>> {
        let generation = self.cache.generation();
        if let Some(store) = self.cache.stores.find(id, generation) {
            return Ok(Some(store));
        }
        let name = id.clone();
        let read = self.database.read(subject, |connection| Box::pin(find_store(connection, name)));
        let store = read.await?.map(Arc::new);
        if let Some(store) = &store {
            self.cache.stores.insert(id.clone(), generation, Arc::clone(store));
        }
        Ok(store)
    }

    pub(super) async fn store_uncached(&self, id: &StoreId) -> Result<Option<Store>> {
        let id = id.clone();
        Ok(self.database.look_up(|connection| Box::pin(find_store(connection, id))).await?)
    }

    pub(super) async fn identity_key(&self, digest: Digest, subject: Subject) -> Result<Option<Registration>> {
        let key = (Kind::IdentityKey, digest);
        self.registration(key, subject, move |connection| Box::pin(find_identity_key(connection, digest))).await
    }

    pub(super) async fn recognition_token(
        &self,
        digest: Digest,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<Registration>> {
        let key = (Kind::RecognitionToken, digest);
        self.registration(key, subject, move |connection| Box::pin(find_recognition_token(connection, digest, now)))
            .await
    }

    async fn registration<F>(&self, key: (Kind, Digest), subject: Subject, find: F) -> Result<Option<Registration>>
    where
        F: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, Option<Found>> + Send + 'static,
    {
        let generation = self.cache.generation();
        if let Some(registration) = self.cache.registrations.find(&key, generation) {
            return Ok(Some(registration));
        }
        let found = self.database.read(subject, find).await?;
        // Unknown keys are not cached: made-up keys would fill the cache. Issued tokens are not cached either: each is
        // used once.
        if let Some(Found { registration, is_issued: false }) = &found {
            self.cache.registrations.insert(key, generation, registration.clone());
        }
        Ok(found.map(|found| found.registration))
    }

    pub(super) async fn link(&self, kind: Kind, digest: Digest) -> Result<Option<Link>> {
        let sql = "SELECT shopper_id, device_id, channel, revoked FROM registration WHERE kind = $1 AND digest = $2";
        let read = self.database.look_up(move |connection| {
            Box::pin(async move {
                let query = query::<Any>(sql).bind(kind.as_str()).bind(digest.as_bytes().as_slice());
                query.fetch_optional(connection).await?.as_ref().map(tables::link).transpose()
            })
        });
        Ok(read.await?)
    }

    pub(super) async fn profile(&self, id: &VisitorId) -> Result<Option<Profile>> {
        let id = id.clone();
        let read = self.database.look_up(move |connection| {
            Box::pin(async move {
                let query = query::<Any>(select_profiles!("WHERE s.id = $1")).bind(id.as_str());
                query.fetch_optional(connection).await?.as_ref().map(tables::profile).transpose()
            })
        });
        Ok(read.await?)
    }

    pub(super) async fn devices(&self, shoppers: Vec<VisitorId>) -> Result<HashMap<VisitorId, Vec<DeviceId>>> {
        let engine = self.database.engine();
        let read = self.database.look_up(move |connection| {
            Box::pin(async move { changes::devices_of(connection, engine, shoppers.iter().collect()).await })
        });
        Ok(read.await?)
    }

    pub(super) async fn stores(&self, after: Option<StoreId>, limit: usize) -> Result<Vec<Store>> {
        let after = after.map_or_else(String::new, |after| after.as_str().to_owned());
        self.list(select_stores!("WHERE id > $1 ORDER BY id LIMIT $2"), after, limit, tables::store).await
    }

    pub(super) async fn shoppers(&self, after: Option<VisitorId>, limit: usize) -> Result<Vec<Profile>> {
        let after = after.map_or_else(String::new, |after| after.as_str().to_owned());
        self.list(select_profiles!("WHERE s.id > $1 ORDER BY s.id LIMIT $2"), after, limit, tables::profile).await
    }

    pub(super) async fn registrations(
        &self,
        kind: Kind,
        after: Option<Digest>,
        limit: usize,
    ) -> Result<Vec<(Digest, Link)>> {
        let after = after.map_or_else(Vec::new, |after| after.as_bytes().to_vec());
        let sql = match kind {
            Kind::IdentityKey => {
                "SELECT digest, shopper_id, device_id, channel, revoked FROM registration
                 WHERE kind = 'identity_key' AND digest > $1 ORDER BY digest LIMIT $2"
            }
            Kind::RecognitionToken => {
                "SELECT digest, shopper_id, device_id, channel, revoked FROM registration
                 WHERE kind = 'recognition_token' AND digest > $1 ORDER BY digest LIMIT $2"
            }
        };
        self.list(sql, after, limit, |row| Ok((tables::digest(row)?, tables::link(row)?))).await
    }

    pub(super) async fn audit(&self, before: Option<i64>, limit: usize) -> Result<Vec<AuditEntry>> {
        let sql = "SELECT id, at, action, kind, subject FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2";
        self.list(sql, before.unwrap_or(i64::MAX), limit, tables::audit_entry).await
    }

    async fn list<T, A>(
        &self,
        sql: &'static str,
        after: A,
        limit: usize,
        read: fn(&AnyRow) -> Result<T, DatabaseError>,
    ) -> Result<Vec<T>>
    where
        T: Send + 'static,
        A: for<'q> sqlx::Encode<'q, Any> + sqlx::Type<Any> + Send + 'static,
    {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let list = self.database.look_up(move |connection| {
            Box::pin(async move {
                let rows = query::<Any>(sql).bind(after).bind(limit).fetch_all(connection).await?;
                rows.iter().map(read).collect()
            })
        });
        Ok(list.await?)
    }

    pub(super) async fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<Vec<Outcome>> {
        let engine = self.database.engine();
        let apply =
            self.database.transaction(move |connection| Box::pin(changes::apply(connection, engine, changes, now)));
        let outcomes = apply.await;
        // Also after an error: the transaction may have been committed.
        self.cache.invalidate();
        Ok(outcomes?)
    }

    pub(super) async fn announce_erasure(&self) -> Result<()> {
        let tell = self.database.transaction(|connection| Box::pin(changes::announce_erasure(connection)));
        Ok(tell.await?)
    }

    pub(super) fn cached(&self) -> (usize, usize) {
        (self.cache.stores.len(), self.cache.registrations.len())
    }

    pub(super) fn max_staleness(&self) -> Duration {
        match self.database.engine() {
            Engine::Sqlite => Duration::ZERO,
            Engine::Postgres => FRESH_FOR,
        }
    }

    /// Checks for changes by other connectors, and returns whether they have erased a shopper.
    pub(super) async fn refresh(&self) -> Result<bool> {
        if self.database.engine() == Engine::Sqlite {
            return Ok(false); // no other connector uses this file
        }
        let checked_at = Instant::now();
        let read = self.database.look_up(|connection| {
            Box::pin(async move {
                let row = query::<Any>("SELECT version, erasures FROM directory_version").fetch_one(connection).await?;
                Ok((row.try_get("version")?, row.try_get("erasures")?))
            })
        });
        let (version, erasures): (i64, i64) = read.await?;
        if self.seen.version.swap(version, Ordering::AcqRel) != version {
            self.cache.invalidate();
        }
        self.cache.set_fresh(checked_at, FRESH_FOR);
        let before = self.seen.erasures.swap(erasures, Ordering::AcqRel);
        Ok(before != 0 && before != erasures)
    }
}

async fn find_store(connection: &mut AnyConnection, id: StoreId) -> Result<Option<Store>, DatabaseError> {
    let found = query::<Any>(select_stores!("WHERE id = $1")).bind(id.as_str()).fetch_optional(connection).await?;
    found.as_ref().map(tables::store).transpose()
}

/// A key or token that was found, and whether it is an issued token.
struct Found {
    registration: Registration,
    is_issued: bool,
}

async fn find_identity_key(connection: &mut AnyConnection, digest: Digest) -> Result<Option<Found>, DatabaseError> {
    let query = query::<Any>(REGISTERED).bind(digest.as_bytes().as_slice()).bind(Kind::IdentityKey.as_str());
    query.fetch_optional(connection).await?.as_ref().map(found).transpose()
}

async fn find_recognition_token(
    connection: &mut AnyConnection,
    digest: Digest,
    now: DateTime<Utc>,
) -> Result<Option<Found>, DatabaseError> {
    let sql = format!("{REGISTERED} UNION ALL {ISSUED} ORDER BY issued LIMIT 1");
    let query = query::<Any>(AssertSqlSafe(sql))
        .bind(digest.as_bytes().as_slice())
        .bind(Kind::RecognitionToken.as_str())
        .bind(tables::to_nanos(now));
    query.fetch_optional(connection).await?.as_ref().map(found).transpose()
}

fn found(row: &AnyRow) -> Result<Found, DatabaseError> {
    Ok(Found { registration: tables::registration(row)?, is_issued: tables::number(row, "issued")? == 1 })
}

impl From<DatabaseError> for DirectoryError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy => Self::Busy,
            error => Self::Unavailable(error.to_string()),
        }
    }
}
