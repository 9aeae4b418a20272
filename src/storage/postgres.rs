//! PostgreSQL: how to reach it, and how connections to it behave.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnectionMetadata;
use sqlx::{AnyConnection, Connection as _, Error, query_scalar};
use tokio::time::{Instant, sleep};

use super::{ACQUIRE, StorageError, quietly, with_settings};

/// How many connections write: the ledger's batches, and changes of the directory beside them.
const WRITERS: u32 = 2;
/// How long a start waits for a server that is not there yet, as when both start together.
const START: Duration = Duration::from_secs(30);
/// A connection that has rested for longer is tried before it is used: the server may have gone meanwhile.
const RESTED: Duration = Duration::from_secs(1);

/// Said to every connection. The server gives up soon after we do, holds no lock for a connector that has stalled, and confirms nothing
/// that a crash could undo.
const SETTINGS: &str = "SET statement_timeout = '1s';
SET lock_timeout = '600ms';
SET idle_in_transaction_session_timeout = '5s';
SET default_transaction_isolation = 'read committed';
SELECT set_config('synchronous_commit', 'on', FALSE) WHERE current_setting('synchronous_commit') IN ('off', 'local')";

pub(super) fn options(url: &SecretString) -> Result<AnyConnectOptions, Error> {
    Ok(quietly(url.expose_secret().parse()?))
}

/// A first connection, for which it is worth waiting a while.
pub(super) async fn connect(options: &AnyConnectOptions) -> Result<AnyConnection, StorageError> {
    let started = Instant::now();
    let mut warned = false;
    let mut connection = loop {
        match AnyConnection::connect_with(options).await {
            Ok(connection) => break connection,
            Err(error) if may_pass(&error) && started.elapsed() < START => {
                if !warned {
                    tracing::warn!(%error, "the database does not answer yet");
                    warned = true;
                }
                sleep(Duration::from_millis(250)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let encoding: String = query_scalar("SELECT current_setting('server_encoding')").fetch_one(&mut connection).await?;
    if encoding != "UTF8" {
        return Err(StorageError::Encoding(encoding));
    }
    Ok(connection)
}

/// Nobody listens, or the server is starting or stopping: not a wrong password or a database that does not exist.
fn may_pass(error: &Error) -> bool {
    match error {
        Error::Io(_) => true,
        Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P") || code == "53300"),
        _ => false,
    }
}

/// Those that read, and those that write.
pub(super) async fn pools(options: &AnyConnectOptions, connections: u32) -> Result<(AnyPool, AnyPool), Error> {
    let pool = |size| {
        let options = AnyPoolOptions::new().min_connections(1).max_connections(size).acquire_timeout(ACQUIRE);
        with_settings(options.test_before_acquire(false).before_acquire(try_rested), SETTINGS)
    };
    let writes = pool(WRITERS).connect_with(options.clone()).await?;
    let reads = pool(connections.saturating_sub(WRITERS).max(1)).connect_with(options.clone()).await?;
    Ok((reads, writes))
}

/// What the pool wants of a try.
type Tried<'c> = std::pin::Pin<Box<dyn Future<Output = Result<bool, Error>> + Send + 'c>>;

#[expect(clippy::needless_pass_by_value, reason = "the pool passes it so")]
fn try_rested(connection: &mut AnyConnection, metadata: PoolConnectionMetadata) -> Tried<'_> {
    Box::pin(async move {
        if metadata.idle_for > RESTED {
            connection.ping().await?;
        }
        Ok(true)
    })
}
