//! Rate limits for each caller, in one replica or shared by all.
//!
//! Both kinds are a token bucket that uses GCRA (the generic cell rate algorithm), in this process's memory or in a
//! Redis or Valkey that the replicas share ([`RedisLimits`]). While Redis does not answer, each replica limits on its
//! own: a request is never refused because Redis is down. This module knows nothing of HTTP.

mod redis;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock as _, MonotonicClock};
use governor::nanos::Nanos;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use prometheus_client::registry::Registry;

use crate::observe::metrics::readings;
use redis::RedisLimits;
pub(crate) use redis::RedisUrl;

/// A caller that is limited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A configured caller, by name.
    Named(Arc<str>),
    /// A peer address. An IPv6 address stands for its /64 network, because a single host can use all of it.
    Address(IpAddr),
    /// The holder of a verified bearer token, by 16 bytes of the token's hash.
    Token([u8; 16]),
}

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self::Address(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => Self::Address(v4),
        }
    }
}

/// The caller's part of its key in Redis.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "caller-{name}"),
            Self::Address(address) => address.fmt(f),
            Self::Token(hash) => write!(f, "token-{}", hex::encode(hash)),
        }
    }
}

/// The rate limit of each caller.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Requests a second, on average.
    pub per_second: NonZeroU32,
    /// The maximum number of requests in one burst, after a pause.
    pub burst: NonZeroU32,
    /// The maximum number of callers with their own allowance. Callers beyond it share one allowance, so that memory is
    /// bounded.
    pub max_callers: usize,
}

impl Allowance {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// The rate limits of all callers. Clones share them.
#[derive(Clone, Debug)]
pub struct RateLimits {
    /// The limits of this replica alone. They use the monotonic clock: governor's default clock can run backwards
    /// between the cores of some processors, and a request is then refused wrongly.
    local: Arc<RateLimiter<Caller, CallerStates, MonotonicClock>>,
    /// The limits that replicas share, if they do.
    redis: Option<RedisLimits>,
}

impl RateLimits {
    /// Creates limits with a full allowance for every caller. With a URL, replicas share them through Redis, and
    /// [`RateLimits::stay_connected`] must run.
    pub fn new(allowance: Allowance, redis: Option<RedisUrl>) -> Self {
        let redis = redis.map(|url| RedisLimits::new(allowance, url));
        Self { redis, ..Self::local(allowance.quota(), allowance.max_callers) }
    }

    /// Creates limits of this replica alone: `number` requests a minute, which may arrive at the same time.
    pub fn per_minute(number: NonZeroU32, max_callers: usize) -> Self {
        Self::local(Quota::per_minute(number), max_callers)
    }

    fn local(quota: Quota, max_callers: usize) -> Self {
        let limiter = RateLimiter::new(quota, CallerStates::new(max_callers), MonotonicClock);
        Self { local: Arc::new(limiter), redis: None }
    }

    /// Counts a request against the caller's allowance.
    ///
    /// # Errors
    /// When the caller has used up its allowance: how long until the next request would pass.
    pub async fn count_request(&self, caller: &Caller) -> Result<(), Duration> {
        // Boxed, so that the future stays small for local limits; next to a request to Redis, an allocation costs
        // little.
        if let Some(redis) = &self.redis
            && let Some(counted) = Box::pin(redis.count_request(caller)).await
        {
            return counted;
        }
        self.count_locally(caller)
    }

    fn count_locally(&self, caller: &Caller) -> Result<(), Duration> {
        self.local.check_key(caller).map_err(|until| until.wait_time_from(MonotonicClock.now()))
    }

    /// Keeps the connection to Redis open. Never returns, except for local limits, where it returns immediately.
    pub async fn stay_connected(self) {
        if let Some(redis) = self.redis {
            redis.stay_connected().await;
        }
    }

    /// Removes callers whose full allowance is available again. Called from time to time, to free memory.
    pub fn sweep(&self) {
        self.local.retain_recent();
    }

    /// The number of callers with their own allowance in this replica.
    pub fn callers(&self) -> usize {
        self.local.len()
    }

    /// Adds the metrics of these limits to a registry.
    pub fn register(&self, registry: &mut Registry) {
        readings! { registry, limits = self;
            /// 1 while replicas share rate limits through rate_limit.url, 0 while each replica limits on its own.
            gauge rate_limit_shared = limits.redis.as_ref().is_some_and(RedisLimits::is_shared);
            /// Failed requests to the Redis at rate_limit.url. Growth means that replicas limit on their own; no scan
            /// fails.
            counter rate_limit_failures = limits.redis.as_ref().map_or(0, RedisLimits::failures);
            /// Callers with their own allowance in this replica. At rate_limit.max_callers further callers share one
            /// allowance.
            gauge rate_limit_callers = limits.callers();
        }
    }
}

/// Governor's store of the callers' states: a map of bounded size, and one shared state for all callers beyond the
/// bound.
struct CallerStates {
    own: DashMap<Caller, InMemoryState>,
    /// At least the size of `own`; counted here, because `DashMap::len` locks the whole map.
    len: AtomicUsize,
    max: usize,
    shared: InMemoryState,
}

impl CallerStates {
    fn new(max: usize) -> Self {
        Self { own: DashMap::new(), len: AtomicUsize::new(0), max, shared: InMemoryState::default() }
    }
}

impl StateStore for CallerStates {
    type Key = Caller;

    fn measure_and_replace<T, F, E>(&self, caller: &Caller, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(state) = self.own.get(caller) {
            return state.measure_and_replace(&NotKeyed::NonKey, f);
        }
        if self.len.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.len.fetch_sub(1, Ordering::AcqRel);
            return self.shared.measure_and_replace(&NotKeyed::NonKey, f);
        }
        let mut inserted = false;
        let state = self.own.entry(caller.clone()).or_insert_with(|| {
            inserted = true;
            InMemoryState::default()
        });
        if !inserted {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        state.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

impl ShrinkableKeyedStateStore<Caller> for CallerStates {
    fn retain_recent(&self, drop_below: Nanos) {
        self.own.retain(|_, state| {
            // Returning an error reads the state without changing it.
            let arrival = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), Option<Nanos>>);
            let recent = matches!(arrival, Err(Some(arrival)) if arrival > drop_below);
            if !recent {
                self.len.fetch_sub(1, Ordering::AcqRel);
            }
            recent
        });
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for CallerStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerStates").field("len", &self.len).field("max", &self.max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_64_network_is_one_caller_and_a_mapped_address_is_ipv4() {
        let caller = |text: &str| Caller::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(caller("2001:db8:1:2:3::4"), caller("2001:db8:1:2::"));
        assert_eq!(caller("2001:db8:1:2:ffff:ffff:ffff:ffff"), caller("2001:db8:1:2::"));
        assert_ne!(caller("2001:db8:1:2::"), caller("2001:db8:1:3::"));
        assert_eq!(caller("::ffff:192.0.2.1"), caller("192.0.2.1"));
    }

    fn limits(burst: u32, max_callers: usize) -> RateLimits {
        let burst = NonZeroU32::new(burst).expect("not zero");
        RateLimits::new(Allowance { per_second: NonZeroU32::MIN, burst, max_callers }, None)
    }

    fn caller(number: u32) -> Caller {
        Caller::from(IpAddr::V4(number.into()))
    }

    #[test]
    fn callers_beyond_the_maximum_share_one_allowance() {
        let limits = limits(2, 1000);
        let passed = (0..1_000_000).filter(|number| limits.count_locally(&caller(*number)).is_ok()).count();
        assert_eq!(limits.callers(), 1000);
        // 1000 callers pass; of the others, two pass on the shared burst, and one more for every second that the test
        // takes.
        assert!((1002..1100).contains(&passed), "{passed}");
        assert!(limits.count_locally(&caller(7)).is_ok(), "a caller below the maximum keeps its own allowance");
    }

    #[test]
    fn sweep_keeps_a_caller_that_has_not_recovered() {
        let limits = limits(1, 10);
        assert!(limits.count_locally(&caller(1)).is_ok());
        limits.sweep();
        assert_eq!(limits.callers(), 1);
        assert!(limits.count_locally(&caller(1)).is_err());
    }

    #[test]
    fn sweep_removes_recovered_callers() {
        let burst = NonZeroU32::MIN;
        let per_second = NonZeroU32::new(1_000_000_000).expect("not zero");
        let limits = RateLimits::new(Allowance { per_second, burst, max_callers: 3 }, None);
        for round in 0..3 {
            for number in 0..3 {
                assert!(limits.count_locally(&caller(10_u32.saturating_mul(round).saturating_add(number))).is_ok());
            }
            assert_eq!(limits.callers(), 3);
            std::thread::sleep(Duration::from_millis(1)); // a million times as long as a caller needs to recover
            limits.sweep();
            assert_eq!(limits.callers(), 0);
        }
    }
}
