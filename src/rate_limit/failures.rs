//! Who is wrong too often is refused for a while without a look, so that nobody can try keys in great numbers.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use governor::Quota;
use tokio::time::Instant;

use super::{Caller, LocalLimits};

/// How many callers are told apart.
const MAX_CALLERS: usize = 100_000;

/// How often each caller was wrong lately: clones share it.
#[derive(Clone, Debug)]
pub struct Failures {
    counted: LocalLimits,
    held_back: Arc<DashMap<Caller, Instant>>,
}

impl Failures {
    /// So many a minute are let pass, all at once if need be.
    #[must_use]
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self { counted: LocalLimits::with_quota(Quota::per_minute(per_minute), MAX_CALLERS), held_back: Arc::default() }
    }

    /// Whether a caller may be looked at.
    ///
    /// # Errors
    /// While they are held back: for how much longer.
    pub fn look(&self, caller: Caller) -> Result<(), Duration> {
        let until = self.held_back.get(&caller).map(|until| *until);
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// Counts one failure, and holds back who has had too many.
    pub fn count(&self, caller: Caller) {
        let Err(wait) = self.counted.charge(caller) else { return };
        let until = Instant::now().checked_add(wait);
        // As many as are told apart, so that memory is bounded; a few more do not matter.
        if let Some(until) = until.filter(|_| self.held_back.len() < MAX_CALLERS) {
            self.held_back.insert(caller, until);
        }
    }

    /// Forgets who has rested. Called now and then; nothing depends on when.
    pub fn sweep(&self) {
        self.counted.sweep();
        let now = Instant::now();
        self.held_back.retain(|_, until| *until > now);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn who_is_wrong_too_often_is_held_back_and_nobody_else() {
        let failures = Failures::new(NonZeroU32::new(3).expect("not zero"));
        let [one, other] = [1, 2].map(|number| Caller::from(IpAddr::from([192, 0, 2, number])));
        for _ in 0..3 {
            failures.count(one);
            assert_eq!(failures.look(one), Ok(()));
        }
        failures.count(one);
        let wait = failures.look(one).expect_err("held back");
        assert!(wait > Duration::from_secs(15) && wait <= Duration::from_secs(20), "{wait:?}");
        assert_eq!(failures.look(other), Ok(()));
    }
}
