//! Carts in a database: one row per owner, locked while it is changed.
//!
//! A change to two owners always locks them in the order of their digests, so that two changes never deadlock.

mod anonymous;
mod document;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, query, query_scalar};

use crate::digest::Digest;
use crate::shopper::carts::rules::{ANONYMOUS_LIFETIME, CartRefusal, Carts};
use crate::shopper::carts::sql::anonymous::AnonymousOwners;
use crate::shopper::carts::{CartsError, Owner, apply};
use crate::storage::{Database, DatabaseError, Engine, corrupt, to_nanos};

type Result<T> = std::result::Result<T, DatabaseError>;

/// The maximum number of owners that one transaction deletes, so that other transactions do not wait long for it.
const BATCH: u32 = 100;

/// Carts in a database.
#[derive(Debug)]
pub(crate) struct SqlCarts {
    database: Database,
    anonymous: AnonymousOwners,
}

impl SqlCarts {
    pub(crate) fn new(database: Database, max_owners: usize) -> Self {
        Self { database, anonymous: AnonymousOwners::new(max_owners) }
    }

    pub(crate) fn anonymous_owners(&self) -> usize {
        self.anonymous.current()
    }

    pub(crate) async fn get(&self, owner: Owner, now: DateTime<Utc>) -> std::result::Result<Carts, CartsError> {
        let found = self.database.look_up(move |connection| Box::pin(find(connection, owner, now)));
        Ok(found.await?)
    }

    pub(crate) async fn change<T, F>(
        &self,
        owner: Owner,
        now: DateTime<Utc>,
        change: F,
    ) -> std::result::Result<std::result::Result<T, CartRefusal>, CartsError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Carts) -> std::result::Result<T, CartRefusal> + Send + 'static,
    {
        let engine = self.database.engine();
        let anonymous = self.anonymous.clone();
        let work = self.database.transaction(move |connection| {
            Box::pin(async move {
                let before = lock(connection, engine, owner, now).await?;
                let (after, result) = apply(&before, change);
                let reservation = match owner.is_anonymous && before.is_empty() && !after.is_empty() {
                    true => anonymous.reserve().map(Some),
                    false => Some(None),
                };
                let Some(reservation) = reservation else {
                    store(connection, owner, &before, &before).await?;
                    return Ok((result.and(Err(CartRefusal::Full)), None));
                };
                store(connection, owner, &before, &after).await?;
                Ok((result, reservation))
            })
        });
        let (result, _reservation) = work.await?;
        Ok(result)
    }

    pub(crate) async fn migrate(
        &self,
        from: Owner,
        to: Owner,
        now: DateTime<Utc>,
    ) -> std::result::Result<std::result::Result<Carts, CartRefusal>, CartsError> {
        if from == to {
            return Ok(Ok(self.get(to, now).await?));
        }
        let engine = self.database.engine();
        let work = self.database.transaction(move |connection| Box::pin(migrate(connection, engine, from, to, now)));
        Ok(work.await?)
    }

    pub(crate) async fn forget(&self, owner: Digest) -> std::result::Result<(), CartsError> {
        Ok(self.database.transaction(move |connection| Box::pin(delete(connection, owner))).await?)
    }

    pub(crate) async fn purge(&self) -> std::result::Result<(), CartsError> {
        Ok(self.database.purge().await?)
    }

    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// Deletes one batch of owners whose carts have all expired, and returns whether there may be more.
    pub(crate) async fn sweep_some(&self, now: DateTime<Utc>) -> std::result::Result<bool, CartsError> {
        let engine = self.database.engine();
        let swept = self.database.transaction(move |connection| Box::pin(sweep(connection, engine, now)));
        let more = swept.await? == u64::from(BATCH);
        if !more {
            self.anonymous.begin_count();
            self.anonymous.finish_count(self.database.look_up(|connection| Box::pin(count(connection))).await?);
            self.database.truncate_long_log().await;
        }
        Ok(more)
    }
}

async fn find(connection: &mut AnyConnection, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let stored: Option<String> = query_scalar::<Any, _>("SELECT carts FROM basket WHERE owner = $1")
        .bind(owner.digest.as_bytes().as_slice())
        .fetch_optional(connection)
        .await?;
    current(stored, owner, now).await
}

/// Reads and locks an owner's carts: no other transaction can change them until this one ends. Always call [`store`]
/// afterwards.
async fn lock(connection: &mut AnyConnection, engine: Engine, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let statement = match engine {
        // A write transaction in SQLite already excludes all others.
        Engine::Sqlite => return find(connection, owner, now).await,
        // Only a row can be locked, so insert one for an owner without carts. `RETURNING` reads the row as it is after
        // the wait for the lock.
        Engine::Postgres => {
            "INSERT INTO basket (owner, anonymous, carts, changed_at) VALUES ($1, $2, '[]', 0)
             ON CONFLICT (owner) DO UPDATE SET changed_at = basket.changed_at
             RETURNING carts"
        }
    };
    let stored: String = query_scalar::<Any, _>(statement)
        .bind(owner.digest.as_bytes().as_slice())
        .bind(i16::from(owner.is_anonymous))
        .fetch_one(connection)
        .await?;
    current(Some(stored), owner, now).await
}

async fn current(stored: Option<String>, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let Some(text) = stored else { return Ok(Carts::default()) };
    let stored = run_off_worker(text.len(), move || document::read(&text)).await?;
    Ok(owner.current(stored.ok_or_else(|| corrupt("carts"))?, now))
}

/// Runs small work directly, and large work on a blocking thread, so that scans on the same worker do not wait for it.
async fn run_off_worker<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    const MAX_DIRECT: usize = 8 * 1024;
    if bytes <= MAX_DIRECT {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| DatabaseError::Panicked)
}

/// Writes the carts if they have changed. An owner without carts has no row, so a row that [`lock`] inserted is
/// deleted.
async fn store(connection: &mut AnyConnection, owner: Owner, before: &Carts, after: &Carts) -> Result<()> {
    let Some(changed_at) = after.changed_at() else { return delete(connection, owner.digest).await };
    if after == before {
        return Ok(());
    }
    let text = run_off_worker(after.bytes(), {
        let after = after.clone();
        move || document::write(&after)
    });
    let text = text.await??;
    query::<Any>(
        "INSERT INTO basket (owner, anonymous, carts, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (owner) DO UPDATE SET carts = excluded.carts, changed_at = excluded.changed_at",
    )
    .bind(owner.digest.as_bytes().as_slice())
    .bind(i16::from(owner.is_anonymous))
    .bind(text)
    .bind(to_nanos(changed_at))
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete(connection: &mut AnyConnection, owner: Digest) -> Result<()> {
    query::<Any>("DELETE FROM basket WHERE owner = $1").bind(owner.as_bytes().as_slice()).execute(connection).await?;
    Ok(())
}

async fn migrate(
    connection: &mut AnyConnection,
    engine: Engine,
    from: Owner,
    to: Owner,
    now: DateTime<Utc>,
) -> Result<std::result::Result<Carts, CartRefusal>> {
    let mut owners = [from, to];
    owners.sort_unstable_by_key(|owner| owner.digest);
    let mut locked = Vec::with_capacity(owners.len());
    for owner in owners {
        locked.push((owner, lock(connection, engine, owner, now).await?));
    }
    let carts_of = |whose: Owner| locked.iter().find(|(owner, _)| *owner == whose).map(|(_, carts)| carts.clone());
    let (moving, before) = (carts_of(from).unwrap_or_default(), carts_of(to).unwrap_or_default());
    let (after, result) = apply(&before, |carts| carts.merge(moving.clone(), now));
    let left = if result.is_ok() { Carts::default() } else { moving.clone() };
    store(connection, from, &moving, &left).await?;
    store(connection, to, &before, &after).await?;
    Ok(result.map(|()| after))
}

async fn sweep(connection: &mut AnyConnection, engine: Engine, now: DateTime<Utc>) -> Result<u64> {
    let statement = match engine {
        Engine::Sqlite => {
            "DELETE FROM basket WHERE owner IN
                 (SELECT owner FROM basket WHERE anonymous = 1 AND changed_at <= $1 ORDER BY changed_at LIMIT $2)"
        }
        // Skip rows that another connector has locked.
        Engine::Postgres => {
            "DELETE FROM basket WHERE owner IN
                 (SELECT owner FROM basket WHERE anonymous = 1 AND changed_at <= $1 ORDER BY changed_at LIMIT $2
                  FOR UPDATE SKIP LOCKED)"
        }
    };
    let expired_at = now.checked_sub_signed(ANONYMOUS_LIFETIME).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let swept = query::<Any>(statement).bind(to_nanos(expired_at)).bind(i64::from(BATCH)).execute(connection).await?;
    Ok(swept.rows_affected())
}

async fn count(connection: &mut AnyConnection) -> Result<usize> {
    let count: i64 =
        query_scalar::<Any, _>("SELECT count(*) FROM basket WHERE anonymous = 1").fetch_one(connection).await?;
    usize::try_from(count).map_err(corrupt)
}

impl From<DatabaseError> for CartsError {
    fn from(error: DatabaseError) -> Self {
        Self(error.to_string())
    }
}
