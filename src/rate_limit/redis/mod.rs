//! Rate limits that replicas share through Redis or Valkey.
//!
//! - One script decides about a request and counts it, so two replicas cannot both use the last request of an
//!   allowance.
//! - A scan waits for Redis at most [`REQUEST_TIMEOUT`]. After a failure or time-out, this replica uses its local
//!   limits until it is connected again.
//! - One task keeps the connection ([`RedisLimits::stay_connected`]), so no request waits for a server that is known to
//!   be down.
//!
//! redis-rs's `ConnectionManager` does not fit: every request waits while it reconnects, and it does not reconnect
//! after a time-out (a host that disappeared) or when the server has become a read-only replica.

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
pub(crate) use url::RedisUrl;

/// How long a request waits for Redis: a fifteenth of the deadline of a scan, and far more than a server in the same
/// data centre needs.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(100);

/// How long connecting may take. No request waits for it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause before connecting again. Longer than [`REQUEST_TIMEOUT`], so that a late request of the old connection
/// cannot end the new one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// How often a working connection is probed, so that a failure is usually found before it affects a request.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The rate limits that all replicas share. Clones share them.
#[derive(Clone)]
pub struct RedisLimits(Arc<Inner>);

struct Inner {
    client: Client,
    gcra: Gcra,
    state: watch::Sender<State>,
    failures: AtomicU64,
    local: LocalLimits,
}

/// The state of the connection to Redis.
enum State {
    /// Not tried yet.
    Untried,
    /// Replicas share their limits.
    Connected(MultiplexedConnection),
    /// This replica limits on its own. The failure is kept until it is logged.
    Disconnected(Option<String>),
}

#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Server(#[from] RedisError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl RedisLimits {
    pub(super) fn new(allowance: Allowance, RedisUrl(client): RedisUrl) -> Self {
        let (gcra, local) = (Gcra::new(allowance), LocalLimits::new(allowance));
        let state = watch::Sender::new(State::Untried);
        Self(Arc::new(Inner { client, gcra, state, failures: AtomicU64::new(0), local }))
    }

    /// The local limits that apply without Redis.
    pub(super) fn local(&self) -> &LocalLimits {
        &self.0.local
    }

    /// Counts a request against the caller's allowance. If this future is dropped, the request may or may not be
    /// counted; both are harmless.
    pub(super) async fn count_request(&self, caller: &Caller) -> Result<(), Duration> {
        let Some(mut connection) = self.connection() else { return self.0.local.count_request(caller) };
        match within(REQUEST_TIMEOUT, self.0.gcra.count_request(&mut connection, caller)).await {
            Ok(None) => Ok(()),
            Ok(Some(wait)) => Err(wait),
            Err(failure) => {
                self.record_failure(&failure);
                self.0.local.count_request(caller)
            }
        }
    }

    /// Connects, and reconnects whenever the connection is lost. Never returns.
    ///
    /// The log gives the error of the failed reconnect, if it failed: it says more than the error of the lost
    /// connection.
    pub(super) async fn stay_connected(&self) {
        loop {
            let connected = self.connect().await;
            let failure = connected.as_ref().err().map(ToString::to_string);
            if let Err(failure) = &connected {
                self.record_failure(failure);
            }
            if let Some(lost) = self.take_unlogged_failure() {
                let cause = failure.unwrap_or(lost);
                tracing::warn!(
                    cause,
                    "rate limits are not shared between replicas: each limits on its own until rate_limit.url answers"
                );
            }
            if let Ok(connection) = connected {
                tracing::info!("replicas share their rate limits");
                self.0.state.send_replace(State::Connected(connection));
                self.wait_until_lost().await;
            }
            sleep(RECONNECT_PAUSE).await;
        }
    }

    /// Takes the failure that ended the sharing, if it is not logged yet. The caller logs it.
    fn take_unlogged_failure(&self) -> Option<String> {
        let mut failure = None;
        self.0.state.send_if_modified(|state| {
            if let State::Disconnected(unlogged) = state {
                failure = unlogged.take();
            }
            false
        });
        failure
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        // redis-rs's own time-outs are off: `within` limits each step.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = within(CONNECT_TIMEOUT, async {
            let mut connection = self.0.client.get_multiplexed_async_connection_with_config(&config).await?;
            self.0.gcra.load(&mut connection).await?;
            Ok(connection)
        })
        .await?;
        within(REQUEST_TIMEOUT, self.0.gcra.probe(&mut connection)).await?;
        Ok(connection)
    }

    /// Waits until a request or a probe has failed.
    async fn wait_until_lost(&self) {
        let mut state = self.0.state.subscribe();
        while let Some(mut connection) = self.connection() {
            let lost = state.wait_for(|state| !matches!(state, State::Connected(_)));
            if timeout(PROBE_INTERVAL, lost).await.is_err()
                && let Err(failure) = within(REQUEST_TIMEOUT, self.0.gcra.probe(&mut connection)).await
            {
                self.record_failure(&failure);
            }
        }
    }

    /// The connection, if Redis is connected.
    fn connection(&self) -> Option<MultiplexedConnection> {
        match &*self.0.state.borrow() {
            State::Connected(connection) => Some(connection.clone()),
            State::Untried | State::Disconnected(_) => None,
        }
    }

    /// Counts a failure of a request, a probe or an attempt to connect, and falls back to local limits.
    fn record_failure(&self, failure: &Failure) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        self.0.state.send_if_modified(|state| {
            let is_new = !matches!(state, State::Disconnected(_));
            if is_new {
                *state = State::Disconnected(Some(failure.to_string()));
            }
            is_new
        });
    }

    /// Whether replicas share the limits now.
    pub(super) fn is_shared(&self) -> bool {
        matches!(*self.0.state.borrow(), State::Connected(_))
    }

    /// The number of requests, probes and attempts to connect that have failed.
    pub(super) fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits").field("is_shared", &self.is_shared()).finish_non_exhaustive()
    }
}

/// Waits for an answer of Redis, but no longer than `limit`.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, RedisError>>) -> Result<T, Failure> {
    Ok(timeout(limit, answer).await.map_err(|_| Failure::Timeout(limit))??)
}
