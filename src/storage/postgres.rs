//! PostgreSQL: connection options, session settings and connection pools.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, Connection as _, Error, query_scalar};
use tokio::time::Instant;

use super::{
    ACQUIRE_TIMEOUT, ADMIN_TIMEOUT, Pools, SHOPPER_TIMEOUT, StorageError, with_settings, without_statement_log,
};

/// The number of connections for administration and maintenance, which no gate waits for.
const ADMIN_CONNECTIONS: u32 = 2;
/// One in this many connections is for shoppers' apps, but at least one.
const SHOPPERS_SHARE: u32 = 5;
/// The number of connections that each pool keeps open, so that a burst after an idle time does not wait for new ones.
const KEPT_OPEN: u32 = 4;
/// The number of connections for scans' look-ups that are open before the first scan, if the pool is that large.
const PREOPENED: u32 = 16;
/// A connection that has been idle for longer is tested before use, since the server may have closed it.
const IDLE_CHECK: Duration = Duration::from_secs(1);

/// Sent on every new connection. The server ends a statement soon after the connector has stopped waiting for it, does
/// not let one locked event delay a batch, releases the locks of a stalled connector, and confirms no commit that a
/// crash could undo.
const SETTINGS: &str = "SET statement_timeout = '1s';
SET lock_timeout = '150ms';
SET idle_in_transaction_session_timeout = '5s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

pub(super) fn options(url: &SecretString) -> Result<AnyConnectOptions, Error> {
    Ok(without_statement_log(url.expose_secret().parse()?))
}

/// Refuses a database whose encoding cannot store every text.
pub(super) async fn check_encoding(connection: &mut AnyConnection) -> Result<(), StorageError> {
    let encoding: String = query_scalar("SELECT current_setting('server_encoding')").fetch_one(connection).await?;
    if encoding == "UTF8" { Ok(()) } else { Err(StorageError::Encoding(encoding)) }
}

/// The time at which a connection was last found broken. Connections opened before that time are probably broken too,
/// for instance after a restart of the server. They are replaced, so that not each of them fails a scan first.
#[derive(Clone, Debug, Default)]
pub(super) struct StaleCutoff(Arc<Mutex<Option<Instant>>>);

impl StaleCutoff {
    pub(super) fn set_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_stale(&self, age: Duration) -> bool {
        let since = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| age >= since.elapsed())
    }
}

/// Opens the pools: one connection for records, some for administration, some for shoppers' apps, and all others for
/// scans' look-ups. Retries while the server has no free connection, so the caller must set a deadline.
pub(super) async fn pools(
    options: &AnyConnectOptions,
    connections: u32,
    stale_cutoff: &StaleCutoff,
) -> Result<Pools, Error> {
    let pool = |size: u32, kept_open: u32, time_limit| {
        let stale_cutoff = stale_cutoff.clone();
        let pool = AnyPoolOptions::new()
            .max_connections(size)
            .min_connections(kept_open.min(size))
            .acquire_timeout(time_limit)
            .acquire_slow_threshold(Duration::MAX) // not logged: a wait that is too long ends as an error
            .test_before_acquire(false);
        let pool = pool.before_acquire(move |connection, metadata| {
            let is_stale = stale_cutoff.is_stale(metadata.age);
            Box::pin(async move {
                if !is_stale && metadata.idle_for > IDLE_CHECK {
                    connection.ping().await?;
                }
                Ok(!is_stale)
            })
        });
        with_settings(pool, &[SETTINGS]).connect_lazy_with(options.clone())
    };
    let for_shoppers = connections.div_euclid(SHOPPERS_SHARE).max(1);
    let for_admin = ADMIN_CONNECTIONS.min(connections.saturating_sub(3)).max(1);
    let taken = for_admin.saturating_add(for_shoppers).saturating_add(1);
    let writes = pool(1, KEPT_OPEN, ACQUIRE_TIMEOUT);
    let admin = pool(for_admin, KEPT_OPEN, ADMIN_TIMEOUT);
    let for_scans = connections.saturating_sub(taken).max(1);
    let reads = pool(for_scans, KEPT_OPEN, ACQUIRE_TIMEOUT);
    // Opened on first use: the connector may have no shoppers' apps.
    let shoppers = pool(for_shoppers, 0, SHOPPER_TIMEOUT);
    let mut open = Vec::new();
    // Opened now for the first scans: after a restart many scans arrive at the same time, and the caches are empty. A
    // start can wait longer for a connection than a scan can.
    for pool in [&writes, &admin, &reads] {
        open.push(loop {
            match pool.acquire().await {
                Ok(connection) => break connection,
                Err(Error::PoolTimedOut) => {}
                Err(error) => return Err(error),
            }
        });
    }
    // Further connections only help the first scans: failing to open them does not stop the start.
    for _ in 1..for_scans.min(PREOPENED) {
        let Ok(connection) = reads.acquire().await else { break };
        open.push(connection);
    }
    drop(open);
    Ok(Pools {
        reads,
        writes,
        admin_reads: admin.clone(),
        admin_writes: admin,
        shopper_reads: shoppers.clone(),
        shopper_writes: shoppers,
    })
}
