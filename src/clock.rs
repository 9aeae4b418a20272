//! The only module that reads the wall clock. All other code gets the time as an argument.
//!
//! Deadlines are not times of a clock: they are [`Instant`]s, which no change of the clock moves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

/// The instant that is `by` later; `instant` itself on overflow.
pub(crate) fn later(instant: Instant, by: Duration) -> Instant {
    instant.checked_add(by).unwrap_or(instant)
}

/// A time in UTC with as many decimals as it needs, such as `2026-01-01T00:00:00Z`.
pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// The source of the time.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's wall clock.
    System,
    /// A clock that a test sets.
    Manual(ManualClock),
}

impl Clock {
    /// The current time.
    #[expect(clippy::disallowed_methods, reason = "this is the only function that reads the wall clock")]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::System => Utc::now(),
            Self::Manual(clock) => clock.now(),
        }
    }
}

/// A clock that changes only when a test advances it.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// A clock that begins at `start`.
    pub fn starting_at(start: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(start)))
    }

    /// The time of this clock.
    pub fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Advances the clock.
    pub fn advance(&self, by: Duration) {
        let mut time = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *time = time.checked_add_signed(chrono::TimeDelta::from_std(by).unwrap_or_default()).unwrap_or(*time);
    }
}
