//! How often one caller may ask: each replica on its own, or all of them together.
//!
//! A token bucket by GCRA in either case: [`LocalLimits`] in this process's memory, [`RedisLimits`] in a server that the
//! replicas share, which falls back on the first while that server is gone.

mod callers;
mod local;
mod redis;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::Quota;

pub use local::LocalLimits;
pub use redis::{RedisAuthorityError, RedisLimits, RedisUrl, RedisUrlError};

/// Who is charged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Somebody who is configured, by name.
    Named(Arc<str>),
    /// A peer. An IPv6 peer is its /64 network: a single host commands all of that.
    Address(IpAddr),
    /// Whoever holds a bearer token that has been verified, by 16 bytes of a hash of it.
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

/// As it stands in the name under which replicas keep it together.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "caller-{name}"),
            Self::Address(address) => address.fmt(f),
            Self::Token(hash) => write!(f, "token-{}", hex::encode(hash)),
        }
    }
}

/// How much each caller may ask.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Requests a second in the long run.
    pub per_second: NonZeroU32,
    /// Requests at once after a rest.
    pub burst: NonZeroU32,
    /// How many callers are told apart; those beyond share one allowance, so that memory is bounded.
    pub max_callers: usize,
}

impl Allowance {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

/// The rate limits of all callers: clones share them.
#[derive(Clone, Debug)]
pub enum RateLimits {
    /// Of this replica alone.
    Local(LocalLimits),
    /// Across replicas.
    Redis(RedisLimits),
}

impl RateLimits {
    /// Every caller begins rested. A server that is given must be connected to: see [`RateLimits::stay_connected`].
    #[must_use]
    pub fn new(allowance: Allowance, server: Option<RedisUrl>) -> Self {
        match server {
            None => Self::Local(LocalLimits::new(allowance)),
            Some(url) => Self::Redis(RedisLimits::new(allowance, url)),
        }
    }

    /// Of this replica alone, so many a minute, all at once if need be.
    #[must_use]
    pub fn per_minute(number: NonZeroU32, max_callers: usize) -> Self {
        Self::Local(LocalLimits::with_quota(Quota::per_minute(number), max_callers))
    }

    /// Charges one request.
    ///
    /// # Errors
    /// When the caller has used up their allowance: how long until the next request would pass.
    pub async fn charge(&self, caller: &Caller) -> Result<(), Duration> {
        match self {
            Self::Local(limits) => limits.charge(caller),
            // Where requests to a server are under way, a request is slow anyway; where not, its future need not have room for them.
            Self::Redis(limits) => Box::pin(limits.charge(caller)).await,
        }
    }

    /// Keeps the connection to the server that the replicas share, for ever; returns if there is none.
    pub async fn stay_connected(self) {
        match self {
            Self::Local(_) => {}
            Self::Redis(limits) => limits.stay_connected().await,
        }
    }

    /// Forgets callers who have rested. Called now and then; nothing depends on when.
    pub fn sweep(&self) {
        self.local().sweep();
    }

    /// How many callers this replica tells apart at the moment.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.local().callers()
    }

    /// Whether the limits hold across replicas at the moment.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Redis(limits) => limits.is_shared(),
        }
    }

    /// How often the server that the replicas share has failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        match self {
            Self::Local(_) => 0,
            Self::Redis(limits) => limits.failures(),
        }
    }

    fn local(&self) -> &LocalLimits {
        match self {
            Self::Local(limits) => limits,
            Self::Redis(limits) => limits.local(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ipv6_network_is_one_caller_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| Caller::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::"));
        assert_eq!(of("2001:db8:1:2:ffff:ffff:ffff:ffff"), of("2001:db8:1:2::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
