//! The rate limits of this replica alone, in memory.
//!
//! They use the monotonic clock: governor's default clock can run backwards between the cores of some processors, and a
//! request is then refused wrongly.

use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::{Quota, RateLimiter};

use super::callers::CallerStates;
use super::{Allowance, Caller};

/// The rate limits of this replica's callers. Clones share them.
#[derive(Clone, Debug)]
pub struct LocalLimits(Arc<RateLimiter<Caller, CallerStates, MonotonicClock>>);

impl LocalLimits {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self::with_quota(allowance.quota(), allowance.max_callers)
    }

    pub(super) fn with_quota(quota: Quota, max_callers: usize) -> Self {
        Self(Arc::new(RateLimiter::new(quota, CallerStates::new(max_callers), MonotonicClock)))
    }

    pub(super) fn count_request(&self, caller: &Caller) -> Result<(), Duration> {
        self.0.check_key(caller).map_err(|until| until.wait_time_from(MonotonicClock.now()))
    }

    pub(super) fn sweep(&self) {
        self.0.retain_recent();
    }

    pub(super) fn callers(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::NonZeroU32;

    use super::*;

    fn limits(burst: u32, max_callers: usize) -> LocalLimits {
        let burst = NonZeroU32::new(burst).expect("not zero");
        LocalLimits::new(Allowance { per_second: NonZeroU32::MIN, burst, max_callers })
    }

    fn caller(number: u32) -> Caller {
        Caller::from(IpAddr::V4(number.into()))
    }

    #[test]
    fn each_caller_has_its_own_burst() {
        let limits = limits(2, 10);
        for number in 0..10 {
            assert!(limits.count_request(&caller(number)).is_ok());
            assert!(limits.count_request(&caller(number)).is_ok());
            assert!(limits.count_request(&caller(number)).is_err_and(|wait| wait <= Duration::from_secs(1)));
        }
    }

    #[test]
    fn callers_beyond_the_maximum_share_one_allowance() {
        let limits = limits(2, 1000);
        let passed = (0..1_000_000).filter(|number| limits.count_request(&caller(*number)).is_ok()).count();
        assert_eq!(limits.callers(), 1000);
        // 1000 callers pass; of the others, two pass on the shared burst, and one more for every second that the test
        // takes.
        assert!((1002..1100).contains(&passed), "{passed}");
        assert!(limits.count_request(&caller(7)).is_ok(), "a caller below the maximum keeps its own allowance");
    }

    #[test]
    fn sweep_keeps_a_caller_that_has_not_recovered() {
        let limits = limits(1, 10);
        assert!(limits.count_request(&caller(1)).is_ok());
        limits.sweep();
        assert_eq!(limits.callers(), 1);
        assert!(limits.count_request(&caller(1)).is_err());
    }

    #[test]
    fn sweep_removes_recovered_callers() {
        let burst = NonZeroU32::MIN;
        let per_second = NonZeroU32::new(1_000_000_000).expect("not zero");
        let limits = LocalLimits::new(Allowance { per_second, burst, max_callers: 3 });
        for round in 0..3 {
            for number in 0..3 {
                assert!(limits.count_request(&caller(10_u32.saturating_mul(round).saturating_add(number))).is_ok());
            }
            assert_eq!(limits.callers(), 3);
            std::thread::sleep(Duration::from_millis(1)); // a million times as long as a caller needs to recover
            limits.sweep();
            assert_eq!(limits.callers(), 0);
        }
    }
}
