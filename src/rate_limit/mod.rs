//! How often one caller may ask.
//!
//! A token bucket by GCRA, on the monotonic clock: governor's default clock can run backwards between cores on some
//! processors and then refuses wrongly.

mod callers;

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::{Quota, RateLimiter};

use callers::CallerStates;

/// Who is charged. An IPv6 peer is its /64 network: a single host commands all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller(IpAddr);

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
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

/// The rate limits of all callers: clones share them.
#[derive(Clone, Debug)]
pub struct RateLimits(Arc<RateLimiter<Caller, CallerStates, MonotonicClock>>);

impl RateLimits {
    /// Every caller begins rested.
    #[must_use]
    pub fn new(allowance: Allowance) -> Self {
        let quota = Quota::per_second(allowance.per_second).allow_burst(allowance.burst);
        let states = CallerStates::new(allowance.max_callers);
        Self(Arc::new(RateLimiter::new(quota, states, MonotonicClock)))
    }

    /// Charges one request.
    ///
    /// # Errors
    /// When the caller has used up their allowance: how long until the next request would pass.
    pub fn charge(&self, caller: Caller) -> Result<(), Duration> {
        self.0.check_key(&caller).map_err(|until| until.wait_time_from(MonotonicClock.now()))
    }

    /// Forgets callers who have rested. Called now and then; nothing depends on when.
    pub fn sweep(&self) {
        self.0.retain_recent();
    }

    /// How many callers are told apart at the moment.
    #[must_use]
    pub fn callers(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(burst: u32, max_callers: usize) -> RateLimits {
        let burst = NonZeroU32::new(burst).expect("not zero");
        RateLimits::new(Allowance { per_second: NonZeroU32::MIN, burst, max_callers })
    }

    fn caller(number: u32) -> Caller {
        Caller::from(IpAddr::V4(number.into()))
    }

    #[test]
    fn each_caller_has_a_burst_of_their_own() {
        let limits = limits(2, 10);
        for number in 0..10 {
            assert!(limits.charge(caller(number)).is_ok());
            assert!(limits.charge(caller(number)).is_ok());
            assert!(limits.charge(caller(number)).is_err_and(|wait| wait <= Duration::from_secs(1)));
        }
    }

    #[test]
    fn a_million_callers_take_no_more_room_than_the_cap_and_share_what_is_beyond_it() {
        let limits = limits(2, 1000);
        let passed = (0..1_000_000).filter(|number| limits.charge(caller(*number)).is_ok()).count();
        assert_eq!(limits.callers(), 1000);
        // The thousand pass, and of the rest the two of the shared burst and one more for every second that this took.
        assert!((1002..1100).contains(&passed), "{passed}");
        assert!(limits.charge(caller(7)).is_ok(), "whoever is known keeps their own allowance");
    }

    #[test]
    fn a_caller_in_debt_is_not_forgotten() {
        let limits = limits(1, 10);
        assert!(limits.charge(caller(1)).is_ok());
        limits.sweep();
        assert_eq!(limits.callers(), 1);
        assert!(limits.charge(caller(1)).is_err());
    }

    #[test]
    fn who_has_rested_is_forgotten_and_makes_room() {
        let burst = NonZeroU32::MIN;
        let per_second = NonZeroU32::new(1_000_000_000).expect("not zero");
        let limits = RateLimits::new(Allowance { per_second, burst, max_callers: 3 });
        for round in 0..3 {
            for number in 0..3 {
                assert!(limits.charge(caller(10_u32.saturating_mul(round).saturating_add(number))).is_ok());
            }
            assert_eq!(limits.callers(), 3);
            std::thread::sleep(Duration::from_millis(1)); // a millionfold of what a rest takes
            limits.sweep();
            assert_eq!(limits.callers(), 0);
        }
    }

    #[test]
    fn one_ipv6_network_is_one_caller_and_a_mapped_address_is_ipv4() {
        let of = |text: &str| Caller::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2::"));
        assert_eq!(of("2001:db8:1:2:ffff:ffff:ffff:ffff"), of("2001:db8:1:2::"));
        assert_ne!(of("2001:db8:1:2::"), of("2001:db8:1:3::"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
