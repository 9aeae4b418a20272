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

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisError, RedisResult, Script,
    ScriptInvocation, TlsCertificates,
};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::{Allowance, Caller};

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

/// The prefix of all keys. If unrelated connectors use one Redis, give each its own database in the URL.
const PREFIX: &str = "connector:rate_limit:";

/// Sorted set of the callers whose own allowance is partly used.
const CALLERS: &str = "connector:rate_limit:callers";

/// The allowance that callers beyond the maximum share.
const SHARED: &str = "connector:rate_limit:beyond";

/// The key that the probe uses; no caller has it.
const PROBE: &str = "connector:rate_limit:probe";

/// The rate limits that all replicas share. Clones share them.
#[derive(Clone)]
pub(super) struct RedisLimits(Arc<Inner>);

struct Inner {
    client: Client,
    gcra: Gcra,
    state: watch::Sender<State>,
    failures: AtomicU64,
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
        let (gcra, state) = (Gcra::new(allowance), watch::Sender::new(State::Untried));
        Self(Arc::new(Inner { client, gcra, state, failures: AtomicU64::new(0) }))
    }

    /// Counts a request against the caller's allowance. `None` if Redis does not answer. If this future is dropped, the
    /// request may or may not be counted; both are harmless.
    pub(super) async fn count_request(&self, caller: &Caller) -> Option<Result<(), Duration>> {
        let mut connection = self.connection()?;
        match within(REQUEST_TIMEOUT, self.0.gcra.count_request(&mut connection, caller)).await {
            Ok(wait) => Some(wait.map_or(Ok(()), Err)),
            Err(failure) => {
                self.record_failure(&failure);
                None
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

/// `gcra.lua` with the parameters of one allowance.
struct Gcra {
    script: Script,
    parameters: GcraParameters,
    /// The maximum number of callers with their own allowance.
    max_callers: usize,
}

/// An allowance in the terms of GCRA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GcraParameters {
    /// The time after which one more request is allowed.
    interval: Duration,
    /// The GCRA tolerance: `(burst - 1) * interval`.
    tolerance: Duration,
}

impl GcraParameters {
    /// The shortest interval: the probe's key refuses almost nothing and expires immediately.
    const FASTEST: Self = Self { interval: Duration::from_nanos(1), tolerance: Duration::ZERO };
}

impl From<Allowance> for GcraParameters {
    /// Rounded as governor rounds: to whole nanoseconds, downwards.
    fn from(allowance: Allowance) -> Self {
        let interval = allowance.quota().replenish_interval().max(Self::FASTEST.interval);
        let after_first = allowance.burst.get().saturating_sub(1);
        Self { interval, tolerance: interval.saturating_mul(after_first) }
    }
}

impl Gcra {
    fn new(allowance: Allowance) -> Self {
        Self {
            script: Script::new(include_str!("gcra.lua")),
            parameters: allowance.into(),
            max_callers: allowance.max_callers,
        }
    }

    /// Loads the script in advance. Otherwise the first request needs a second round trip (`NOSCRIPT`).
    async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.script.load_async(connection).await.map(drop)
    }

    /// Counts a request against the caller's allowance. Returns how long to wait if the allowance is used up.
    async fn count_request(
        &self,
        connection: &mut MultiplexedConnection,
        caller: &Caller,
    ) -> RedisResult<Option<Duration>> {
        let mut call = self.script.key(format!("{PREFIX}{caller}"));
        // The configuration bounds the number of named callers, so they need not be counted.
        if !matches!(caller, Caller::Named(_)) {
            call.key(CALLERS).key(SHARED);
        }
        self.run(connection, call, self.parameters).await
    }

    /// Checks that Redis can count requests: a read-only replica, for example, answers but does not write.
    async fn probe(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.run(connection, self.script.key(PROBE), GcraParameters::FASTEST).await.map(drop)
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        mut call: ScriptInvocation<'_>,
        GcraParameters { interval, tolerance }: GcraParameters,
    ) -> RedisResult<Option<Duration>> {
        for part in [interval, tolerance] {
            call.arg(part.as_secs()).arg(part.subsec_nanos());
        }
        call.arg(self.max_callers);
        let wait: u64 = call.invoke_async(connection).await?;
        Ok((wait > 0).then(|| Duration::from_nanos(wait)))
    }
}

/// `rate_limit.url`: the address of Redis, and perhaps a password. Its `Debug` output hides both.
#[derive(Clone)]
pub struct RedisUrl(Client);

/// The text is not a [`RedisUrl`]. The message does not quote the text, which may contain a password.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "must be redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS; all parts but the host are optional, and \
     special characters must be percent-encoded (%40 for @)"
)]
pub struct RedisUrlError;

/// The certificate authorities cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RedisAuthorityError {
    /// The URL is not for TLS.
    #[error("needs TLS: rate_limit.url must begin with rediss://")]
    Plain,
    /// They are not certificates.
    #[error("must be a PEM file with at least one certificate")]
    Unreadable,
}

impl RedisUrl {
    /// Trusts only these certificate authorities, in the PEM format, to verify the server.
    ///
    /// # Errors
    /// When the URL is not for TLS, or the text contains no certificates.
    pub fn with_authorities(self, authorities: &str) -> Result<Self, RedisAuthorityError> {
        let info = self.0.get_connection_info().clone();
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Err(RedisAuthorityError::Plain);
        }
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(authorities.as_bytes()).collect();
        if certificates.is_ok_and(|certificates| certificates.is_empty()) {
            return Err(RedisAuthorityError::Unreadable); // without an authority no server can be verified
        }
        let tls = TlsCertificates { client_tls: None, root_cert: Some(authorities.as_bytes().to_vec()) };
        Client::build_with_tls(info, tls).map(Self).map_err(|_| RedisAuthorityError::Unreadable)
    }

    /// Parses a URL, without connecting.
    ///
    /// # Errors
    /// When the scheme is not `redis://` or `rediss://`, or the URL asks for TLS without verification.
    pub fn parse(url: &str) -> Result<Self, RedisUrlError> {
        if !url.starts_with("redis://") && !url.starts_with("rediss://") {
            return Err(RedisUrlError);
        }
        // An unescaped character in a password would end it early, and the rest would be read as a path, a query or a
        // fragment.
        let (_, rest) = url.split_once("://").ok_or(RedisUrlError)?;
        if rest.split_once(['/', '?', '#']).is_some_and(|(_, rest)| rest.contains('@')) {
            return Err(RedisUrlError);
        }
        let info = url.into_connection_info().map_err(|_| RedisUrlError)?;
        if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
            return Err(RedisUrlError);
        }
        // Without this, a request's packet would wait for the acknowledgement of the packet before it.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Client::open(info).map(Self).map_err(|_| RedisUrlError)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisUrl(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn interval_and_tolerance_follow_from_the_allowance() {
        for (per_second, burst, interval, tolerance) in [
            (1, 1, Duration::from_secs(1), Duration::ZERO),
            (1, 1_000_000_000, Duration::from_secs(1), Duration::from_secs(999_999_999)),
            (3, 2, Duration::from_nanos(333_333_333), Duration::from_nanos(333_333_333)),
            (1000, 2000, Duration::from_millis(1), Duration::from_millis(1999)),
            (1_000_000_000, 1_000_000_000, Duration::from_nanos(1), Duration::from_nanos(999_999_999)),
        ] {
            let [per_second, burst] = [per_second, burst].map(|number| NonZeroU32::new(number).expect("not zero"));
            let parameters = GcraParameters::from(Allowance { per_second, burst, max_callers: 1 });
            assert_eq!(parameters, GcraParameters { interval, tolerance }, "{per_second} a second, burst {burst}");
        }
    }

    #[test]
    fn only_redis_urls_with_or_without_verified_tls_are_accepted() {
        for url in [
            "redis://localhost",
            "redis://127.0.0.1:6379/3",
            "redis://[::1]:6379",
            "redis://:p%40ss@valkey.internal",
            "rediss://connector:secret@valkey.internal:6380/0",
        ] {
            let url = RedisUrl::parse(url).expect(url);
            assert_eq!(format!("{url:?}"), "RedisUrl(hidden)");
        }
        for url in [
            "",
            "localhost",
            "localhost:6379",
            "http://localhost",
            "unix:///run/redis.sock",
            "redis://",
            "redis://:secret@",
            "redis://localhost/three",
            "redis://localhost:port",
            "redis://0.0.0.0",
            "redis://u:12/secret@localhost",
            "redis://u:12?secret@localhost",
            "redis://u:12#secret@localhost",
            "rediss://localhost/#insecure", // TLS without verification
        ] {
            assert_eq!(RedisUrl::parse(url).err(), Some(RedisUrlError), "{url}");
        }
    }
}
