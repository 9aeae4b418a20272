//! The Lua script that counts a request against the caller's allowance in Redis, and its arguments.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script, ScriptInvocation};

use crate::rate_limit::{Allowance, Caller};

/// The prefix of all keys. If unrelated connectors use one Redis, give each its own database in the URL.
const PREFIX: &str = "connector:rate_limit:";

/// Sorted set of the callers whose own allowance is partly used.
const CALLERS: &str = "connector:rate_limit:callers";

/// The allowance that callers beyond the maximum share.
const SHARED: &str = "connector:rate_limit:beyond";

/// The key that the probe uses; no caller has it.
const PROBE: &str = "connector:rate_limit:probe";

/// `gcra.lua` with the parameters of one allowance.
pub(super) struct Gcra {
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
    pub(super) fn new(allowance: Allowance) -> Self {
        Self {
            script: Script::new(include_str!("gcra.lua")),
            parameters: allowance.into(),
            max_callers: allowance.max_callers,
        }
    }

    /// Loads the script in advance. Otherwise the first request needs a second round trip (`NOSCRIPT`).
    pub(super) async fn load(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        self.script.load_async(connection).await.map(drop)
    }

    /// Counts a request against the caller's allowance. Returns how long to wait if the allowance is used up.
    pub(super) async fn count_request(
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
    pub(super) async fn probe(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
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
}
