//! The script, and how to call it.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, ScriptInvocation};

use crate::rate_limit::{Allowance, Caller};

/// Everything that is kept there begins so. One Redis for several connectors: give each a database of its own, by the URL.
const PREFIX: &str = "connector:rate_limit:";

/// All callers who are told apart, and have not rested.
const CALLERS: &str = "connector:rate_limit:callers";

/// What those share who are not told apart.
const BEYOND: &str = "connector:rate_limit:beyond";

/// What the script is tried on: no caller.
const PROBE: &str = "connector:rate_limit:probe";

/// `gcra.lua` with the numbers of one allowance.
pub(super) struct Gcra {
    script: Script,
    pace: Pace,
    /// How many callers are told apart.
    max_callers: usize,
}

/// An allowance as GCRA counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pace {
    /// In which a request comes back.
    interval: Duration,
    /// How far ahead of an even pace a caller may be.
    tolerance: Duration,
}

impl Pace {
    /// The least that there is: it refuses hardly anything, and leaves nothing.
    const FASTEST: Self = Self { interval: Duration::from_nanos(1), tolerance: Duration::ZERO };
}

impl From<Allowance> for Pace {
    /// Rounded as governor rounds: to whole nanoseconds, downwards.
    fn from(allowance: Allowance) -> Self {
        let interval = allowance.quota().replenish_interval().max(Self::FASTEST.interval);
        let further = allowance.burst.get().saturating_sub(1);
        Self { interval, tolerance: interval.saturating_mul(further) }
    }
}

impl Gcra {
    pub(super) fn new(allowance: Allowance) -> Self {
        Self {
            script: Script::new(include_str!("gcra.lua")),
            pace: allowance.into(),
            max_callers: allowance.max_callers,
        }
    }

    /// Makes it known to the server, which would otherwise have to ask for it in the middle of a request.
    pub(super) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.script.load_async(connection).await.map(drop)
    }

    /// Charges one request; how long to wait if there is nothing left to charge.
    pub(super) async fn charge(
        &self,
        connection: &mut MultiplexedConnection,
        caller: &Caller,
    ) -> RedisResult<Option<Duration>> {
        let mut call = self.script.key(format!("{PREFIX}{caller}"));
        // Those who are configured are as few as the configuration says.
        if !matches!(caller, Caller::Named(_)) {
            call.key(CALLERS).key(BEYOND);
        }
        self.run(connection, call, self.pace).await
    }

    /// Whether the server would charge: a replica, say, answers but does not write.
    pub(super) async fn probe(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.run(connection, self.script.key(PROBE), Pace::FASTEST).await.map(drop)
    }

    async fn run(
        &self,
        connection: &mut MultiplexedConnection,
        mut call: ScriptInvocation<'_>,
        Pace { interval, tolerance }: Pace,
    ) -> RedisResult<Option<Duration>> {
        for part in [interval, tolerance] {
            call.arg(part.as_secs()).arg(part.subsec_nanos());
        }
        call.arg(self.max_callers);
        let wait: u64 = call.invoke_async(connection).await?;
        Ok((wait > 0).then(|| Duration::from_nanos(wait)))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn the_pace_is_that_of_the_allowance_at_either_end_of_its_range() {
        for (per_second, burst, interval, tolerance) in [
            (1, 1, Duration::from_secs(1), Duration::ZERO),
            (1, 1_000_000_000, Duration::from_secs(1), Duration::from_secs(999_999_999)),
            (3, 2, Duration::from_nanos(333_333_333), Duration::from_nanos(333_333_333)),
            (1000, 2000, Duration::from_millis(1), Duration::from_millis(1999)),
            (1_000_000_000, 1_000_000_000, Duration::from_nanos(1), Duration::from_nanos(999_999_999)),
        ] {
            let [per_second, burst] = [per_second, burst].map(|number| NonZeroU32::new(number).expect("not zero"));
            let pace = Pace::from(Allowance { per_second, burst, max_callers: 1 });
            assert_eq!(pace, Pace { interval, tolerance }, "{per_second} a second, {burst} at once");
        }
    }
}
