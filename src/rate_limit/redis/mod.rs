//! Rate limits that hold across replicas, in Redis or Valkey.
//!
//! One script decides and charges, so that two replicas cannot both take the last of an allowance. A gate waits for it: it has
//! [`BUDGET`], and when it fails or is late, this replica limits on its own from that request on. The connection is the business
//! of one task, [`RedisLimits::stay_connected`]: no request waits for a server that is known to be gone.
//!
//! That task is why this is not redis-rs's `ConnectionManager`. It lets every request wait for its reconnecting, and does not
//! reconnect at all after a time-out, as when a host is gone without a word, or from a server that has become a replica.

mod gcra;
mod url;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Allowance, Caller, LocalLimits};
use gcra::Gcra;
pub use url::{RedisAuthorityError, RedisUrl, RedisUrlError};

/// How long a request waits for its allowance: a fifteenth of what the whole answer may take, and far more than a server in
/// the same data centre needs.
const BUDGET: Duration = Duration::from_millis(100);

/// How long connecting may take. Nobody waits for it.
const ATTEMPT: Duration = Duration::from_secs(1);

/// How long after a failure the server is left alone. Longer than [`BUDGET`], so that no request that is late on one connection is
/// still there to end the next.
const PAUSE: Duration = Duration::from_millis(500);

/// How often a server that answers is asked whether it still does, so that it is seldom a request that finds out.
const PROBE: Duration = Duration::from_secs(1);

/// The rate limits of all callers of all replicas: clones share them.
#[derive(Clone)]
pub struct RedisLimits(Arc<Inner>);

struct Inner {
    client: Client,
    gcra: Gcra,
    sharing: watch::Sender<Sharing>,
    failures: AtomicU64,
    local: LocalLimits,
}

/// Whether the limits hold across replicas.
enum Sharing {
    /// Not known yet.
    Untried,
    Together(MultiplexedConnection),
    /// Each replica limits on its own, since this failure if that is not logged yet.
    Apart(Option<String>),
}

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Server(#[from] RedisError),
    #[error("no answer within {0:?}")]
    Late(Duration),
}

impl RedisLimits {
    pub(super) fn new(allowance: Allowance, RedisUrl(client): RedisUrl) -> Self {
        let (gcra, local) = (Gcra::new(allowance), LocalLimits::new(allowance));
        let sharing = watch::Sender::new(Sharing::Untried);
        Self(Arc::new(Inner { client, gcra, sharing, failures: AtomicU64::new(0), local }))
    }

    /// What each replica limits by when it is on its own.
    pub(super) fn local(&self) -> &LocalLimits {
        &self.0.local
    }

    /// Charges one request. Dropped halfway, it may have been charged or not, and neither does harm.
    pub(super) async fn charge(&self, caller: &Caller) -> Result<(), Duration> {
        let Some(mut connection) = self.connection() else { return self.0.local.charge(caller) };
        match within(BUDGET, self.0.gcra.charge(&mut connection, caller)).await {
            Ok(None) => Ok(()),
            Ok(Some(wait)) => Err(wait),
            Err(failure) => {
                self.failed(&failure);
                self.0.local.charge(caller)
            }
        }
    }

    /// Connects, and connects again whenever that is lost, for ever.
    ///
    /// Why a connection broke says little. Why there is no new one says what is wrong, so that is what the log says, if there is none.
    pub(super) async fn stay_connected(&self) {
        loop {
            let connected = self.connect().await;
            let failure = connected.as_ref().err().map(ToString::to_string);
            if let Err(failure) = &connected {
                self.failed(failure);
            }
            if let Some(broken) = self.not_logged() {
                let cause = failure.unwrap_or(broken);
                tracing::warn!(cause, "rate limits do not hold across replicas: each limits on its own");
            }
            if let Ok(connection) = connected {
                tracing::info!("rate limits hold across replicas");
                self.0.sharing.send_replace(Sharing::Together(connection));
                self.until_lost().await;
            }
            sleep(PAUSE).await;
        }
    }

    /// The failure by which replicas have come apart, if that is not logged yet. The caller logs it.
    fn not_logged(&self) -> Option<String> {
        let mut failure = None;
        self.0.sharing.send_if_modified(|sharing| {
            if let Sharing::Apart(why) = sharing {
                failure = why.take();
            }
            false
        });
        failure
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        // Its own time-outs are off: ours are around all of it.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = within(ATTEMPT, async {
            let mut connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
            self.0.gcra.load(&mut connection).await?;
            Ok(connection)
        })
        .await?;
        within(BUDGET, self.0.gcra.probe(&mut connection)).await?;
        Ok(connection)
    }

    /// Waits until a request or a probe has failed.
    async fn until_lost(&self) {
        let mut sharing = self.0.sharing.subscribe();
        while let Some(mut connection) = self.connection() {
            let lost = sharing.wait_for(|sharing| !matches!(sharing, Sharing::Together(_)));
            if timeout(PROBE, lost).await.is_err()
                && let Err(failure) = within(BUDGET, self.0.gcra.probe(&mut connection)).await
            {
                self.failed(&failure);
            }
        }
    }

    /// The connection, while there is one.
    fn connection(&self) -> Option<MultiplexedConnection> {
        match &*self.0.sharing.borrow() {
            Sharing::Together(connection) => Some(connection.clone()),
            Sharing::Untried | Sharing::Apart(_) => None,
        }
    }

    /// Counts a failure, of a connection or of connecting.
    fn failed(&self, failure: &Failure) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        self.0.sharing.send_if_modified(|sharing| {
            let is_news = !matches!(sharing, Sharing::Apart(_));
            if is_news {
                *sharing = Sharing::Apart(Some(failure.to_string()));
            }
            is_news
        });
    }

    /// Whether the limits hold across replicas now.
    pub(super) fn is_shared(&self) -> bool {
        matches!(*self.0.sharing.borrow(), Sharing::Together(_))
    }

    /// How often the server has failed: checks, probes and attempts to connect.
    pub(super) fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits").field("is_shared", &self.is_shared()).finish_non_exhaustive()
    }
}

/// Redis's answer, if it comes in time.
async fn within<T>(time: Duration, answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, Failure> {
    Ok(timeout(time, answer).await.map_err(|_| Failure::Late(time))??)
}
