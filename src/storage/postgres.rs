//! PostgreSQL: how to reach it, and how connections to it behave.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, Connection as _, Error, query_scalar};
use tokio::time::Instant;

use super::{ACQUIRE, OFFICE, Pools, SHOPPERS, StorageError, quietly, with_settings};

/// How many connections serve what no gate waits for.
const OFFICE_CONNECTIONS: u32 = 2;
/// One in so many serves the apps of shoppers, and one at least.
const SHOPPERS_SHARE: u32 = 5;
/// How many of a kind are kept open, so that a crowd after a rest does not have to wait for them.
const WARM: u32 = 4;
/// How many that look up what scans need are open before the first of them comes, where there may be so many.
const OPENED: u32 = 16;
/// A connection that has rested for longer is tried before it is used: the server may have gone meanwhile.
const RESTED: Duration = Duration::from_secs(1);

/// Said to every connection. The server gives up soon after we do, does not let one locked event hold up a batch, holds no lock for a
/// connector that has stalled, and confirms nothing that a crash could undo.
const SETTINGS: &str = "SET statement_timeout = '1s';
SET lock_timeout = '150ms';
SET idle_in_transaction_session_timeout = '5s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

pub(super) fn options(url: &SecretString) -> Result<AnyConnectOptions, Error> {
    Ok(quietly(url.expose_secret().parse()?))
}

/// Refuses a database that cannot hold every text.
pub(super) async fn check_encoding(connection: &mut AnyConnection) -> Result<(), StorageError> {
    let encoding: String = query_scalar("SELECT current_setting('server_encoding')").fetch_one(connection).await?;
    if encoding == "UTF8" { Ok(()) } else { Err(StorageError::Encoding(encoding)) }
}

/// When a connection was last found broken. The server may have been restarted, and then the others are broken as well: they are opened
/// anew instead of each failing a scan first.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspicion(Arc<Mutex<Option<Instant>>>);

impl Suspicion {
    pub(super) fn arise(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn falls_on(&self, age: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| age >= since.elapsed())
    }
}

/// One that writes what is batched, some for what no gate waits for, some for the apps of shoppers, and all others for what scans look up.
/// Tries for as long as no connection is to be had: to be called under a deadline.
pub(super) async fn pools(
    options: &AnyConnectOptions,
    connections: u32,
    suspicion: &Suspicion,
) -> Result<Pools, Error> {
    let pool = |size: u32, warm: u32, patience| {
        let suspicion = suspicion.clone();
        let pool = AnyPoolOptions::new()
            .max_connections(size)
            .min_connections(warm.min(size))
            .acquire_timeout(patience)
            .acquire_slow_threshold(Duration::MAX) // a wait is no news: it ends as an error or it does not
            .test_before_acquire(false);
        let pool = pool.before_acquire(move |connection, metadata| {
            let is_suspect = suspicion.falls_on(metadata.age);
            Box::pin(async move {
                if !is_suspect && metadata.idle_for > RESTED {
                    connection.ping().await?;
                }
                Ok(!is_suspect)
            })
        });
        with_settings(pool, &[SETTINGS]).connect_lazy_with(options.clone())
    };
    let for_shoppers = connections.div_euclid(SHOPPERS_SHARE).max(1);
    let for_office = OFFICE_CONNECTIONS.min(connections.saturating_sub(3)).max(1);
    let taken = for_office.saturating_add(for_shoppers).saturating_add(1);
    let writes = pool(1, WARM, ACQUIRE);
    let office = pool(for_office, WARM, OFFICE);
    let for_scans = connections.saturating_sub(taken).max(1);
    let reads = pool(for_scans, WARM, ACQUIRE);
    // Opened when the first of them asks: there may be none.
    let shoppers = pool(for_shoppers, 0, SHOPPERS);
    let mut open = Vec::new();
    // So that the first scans find them: after a restart, they all come at once, and nothing is in memory yet. A start can wait longer for
    // that than a scan could.
    for pool in [&writes, &office, &reads] {
        open.push(loop {
            match pool.acquire().await {
                Ok(connection) => break connection,
                Err(Error::PoolTimedOut) => {}
                Err(error) => return Err(error),
            }
        });
    }
    // More than the first are a help, and no reason not to start.
    for _ in 1..for_scans.min(OPENED) {
        let Ok(connection) = reads.acquire().await else { break };
        open.push(connection);
    }
    drop(open);
    Ok(Pools {
        reads,
        writes,
        office_reads: office.clone(),
        office_writes: office,
        shopper_reads: shoppers.clone(),
        shopper_writes: shoppers,
    })
}
