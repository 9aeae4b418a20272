//! Carts in a database: one row an owner, locked for as long as it is changed.
//!
//! Whoever changes two owners locks them in the order of their digests, as everybody does: nobody waits for somebody who waits for them.

mod anonymous;
mod document;

use chrono::{DateTime, Utc};
use sqlx::any::Any;
use sqlx::{AnyConnection, query, query_scalar};

use self::anonymous::AnonymousOwners;
use super::{CartsError, Owner, changed};
use crate::digest::Digest;
use crate::domain::cart::{ANONYMOUS_LIFETIME, CartRefusal, Carts};
use crate::storage::{Database, DatabaseError, Engine, corrupt, nanos};

type Result<T> = std::result::Result<T, DatabaseError>;

/// How many owners one transaction lets go of at most, so that nobody waits long behind it.
const BATCH: u32 = 100;

/// Carts in a database.
#[derive(Debug)]
pub(super) struct SqlCarts {
    database: Database,
    anonymous: AnonymousOwners,
}

impl SqlCarts {
    pub(super) fn new(database: Database, at_most: usize) -> Self {
        Self { database, anonymous: AnonymousOwners::new(at_most) }
    }

    pub(super) fn anonymous(&self) -> usize {
        self.anonymous.number()
    }

    pub(super) async fn of(&self, owner: Owner, now: DateTime<Utc>) -> std::result::Result<Carts, CartsError> {
        let found = self.database.look_up(move |connection| Box::pin(find(connection, owner, now)));
        Ok(found.await?)
    }

    pub(super) async fn change<T, F>(
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
                let (after, done) = changed(&before, change);
                let newcomer = match owner.is_anonymous && before.is_empty() && !after.is_empty() {
                    true => anonymous.one_more().map(Some),
                    false => Some(None),
                };
                let Some(newcomer) = newcomer else {
                    keep(connection, owner, &before, &before).await?;
                    return Ok((done.and(Err(CartRefusal::Full)), None));
                };
                keep(connection, owner, &before, &after).await?;
                Ok((done, newcomer))
            })
        });
        let (done, _newcomer) = work.await?;
        Ok(done)
    }

    pub(super) async fn migrate(
        &self,
        from: Owner,
        to: Owner,
        now: DateTime<Utc>,
    ) -> std::result::Result<std::result::Result<Carts, CartRefusal>, CartsError> {
        if from == to {
            return Ok(Ok(self.of(to, now).await?));
        }
        let engine = self.database.engine();
        let work = self.database.transaction(move |connection| Box::pin(migrate(connection, engine, from, to, now)));
        Ok(work.await?)
    }

    pub(super) async fn forget(&self, owner: Digest) -> std::result::Result<(), CartsError> {
        Ok(self.database.transaction(move |connection| Box::pin(delete(connection, owner))).await?)
    }

    pub(super) async fn purge(&self) -> std::result::Result<(), CartsError> {
        Ok(self.database.purge().await?)
    }

    pub(super) async fn close(&self) {
        self.database.close().await;
    }

    /// Lets go of some owners all of whose carts have ended, and says whether there may be more.
    pub(super) async fn sweep_some(&self, now: DateTime<Utc>) -> std::result::Result<bool, CartsError> {
        let engine = self.database.engine();
        let swept = self.database.transaction(move |connection| Box::pin(sweep(connection, engine, now)));
        let more = swept.await? == u64::from(BATCH);
        if !more {
            self.anonymous.begin_count();
            self.anonymous.counted(self.database.look_up(|connection| Box::pin(count(connection))).await?);
            self.database.truncate_long_log().await;
        }
        Ok(more)
    }
}

async fn find(connection: &mut AnyConnection, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let kept: Option<String> = query_scalar::<Any, _>("SELECT carts FROM basket WHERE owner = $1")
        .bind(owner.digest.as_bytes().as_slice())
        .fetch_optional(connection)
        .await?;
    current(kept, owner, now).await
}

/// What an owner has; nobody else changes it until the transaction ends. Always to be followed by [`keep`].
async fn lock(connection: &mut AnyConnection, engine: Engine, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let statement = match engine {
        // In a transaction that is going to write there is nobody else.
        Engine::Sqlite => return find(connection, owner, now).await,
        // Who has no row gets one, since only a row can be locked, and only so is it seen as it is after the wait for it.
        Engine::Postgres => {
            "INSERT INTO basket (owner, anonymous, carts, changed_at) VALUES ($1, $2, '[]', 0)
             ON CONFLICT (owner) DO UPDATE SET changed_at = basket.changed_at
             RETURNING carts"
        }
    };
    let kept: String = query_scalar::<Any, _>(statement)
        .bind(owner.digest.as_bytes().as_slice())
        .bind(i16::from(owner.is_anonymous))
        .fetch_one(connection)
        .await?;
    current(Some(kept), owner, now).await
}

async fn current(kept: Option<String>, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let Some(text) = kept else { return Ok(Carts::default()) };
    let kept = off_the_workers(text.len(), move || document::read(&text)).await?;
    Ok(owner.current(kept.ok_or_else(|| corrupt("carts"))?, now))
}

/// Runs at once what is quick; on a thread of its own what takes so long that a scan on the same worker would wait for it.
async fn off_the_workers<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    const QUICK: usize = 8 * 1024;
    if bytes <= QUICK {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| DatabaseError::Panicked)
}

/// Writes what has changed. Who has nothing has no row, also if they got one to be locked.
async fn keep(connection: &mut AnyConnection, owner: Owner, before: &Carts, after: &Carts) -> Result<()> {
    let Some(changed_at) = after.changed_at() else { return delete(connection, owner.digest).await };
    if after == before {
        return Ok(());
    }
    let text = off_the_workers(after.bytes(), {
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
    .bind(nanos(changed_at))
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
    let of = |whose: Owner| locked.iter().find(|(owner, _)| *owner == whose).map(|(_, carts)| carts.clone());
    let (moving, before) = (of(from).unwrap_or_default(), of(to).unwrap_or_default());
    let (after, done) = changed(&before, |carts| carts.merge(moving.clone(), now));
    let left = if done.is_ok() { Carts::default() } else { moving.clone() };
    keep(connection, from, &moving, &left).await?;
    keep(connection, to, &before, &after).await?;
    Ok(done.map(|()| after))
}

async fn sweep(connection: &mut AnyConnection, engine: Engine, now: DateTime<Utc>) -> Result<u64> {
    let statement = match engine {
        Engine::Sqlite => {
            "DELETE FROM basket WHERE owner IN
                 (SELECT owner FROM basket WHERE anonymous = 1 AND changed_at <= $1 ORDER BY changed_at LIMIT $2)"
        }
        // What another connector has in hand is left to it.
        Engine::Postgres => {
            "DELETE FROM basket WHERE owner IN
                 (SELECT owner FROM basket WHERE anonymous = 1 AND changed_at <= $1 ORDER BY changed_at LIMIT $2
                  FOR UPDATE SKIP LOCKED)"
        }
    };
    let ended = now.checked_sub_signed(ANONYMOUS_LIFETIME).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let swept = query::<Any>(statement).bind(nanos(ended)).bind(i64::from(BATCH)).execute(connection).await?;
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
