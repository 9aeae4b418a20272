//! The Redis script must agree with governor, which replicas use without Redis, on every request, to the nanosecond.

use crate::trials::{apply, with_redis};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota, RateLimiter};
use proptest::prelude::*;

use crate::support::Redis;
use crate::support::random::check_random;

const SCRIPT: &str = include_str!("../../../src/rate_limit/gcra.lua");

/// Replaces the server's clock by one that the test sets, also for the expiry of keys.
const FAKE_CLOCK: &str = "
local server, clock = redis, { ARGV[5], ARGV[6] }
local milliseconds = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local redis = { call = function(command, key, value, px, expiry)
  if command == 'TIME' then return clock end
  if command == 'GET' then
    local until_then = server.call('GET', key .. ':expiry')
    if until_then and milliseconds >= tonumber(until_then) then return false end
    return server.call('GET', key)
  end
  assert(command == 'SET' and px == 'PX')
  server.call('SET', key .. ':expiry', string.format('%.0f', milliseconds + tonumber(expiry)))
  return server.call('SET', key, value)
end }
";

/// The start time, in microseconds since 1970.
const START: u64 = 1_790_000_000_123_456;

/// The script on a server, for one caller with one quota.
struct Script {
    connection: redis::Connection,
    script: redis::Script,
    interval: Duration,
    tolerance: Duration,
}

impl Script {
    fn new(redis: &Redis, quota: Quota) -> Self {
        let interval = quota.replenish_interval().max(Duration::from_nanos(1));
        Self {
            connection: redis.connection(),
            script: redis::Script::new(&format!("{FAKE_CLOCK}{SCRIPT}")),
            interval,
            tolerance: interval * (quota.burst_size().get() - 1),
        }
    }

    /// Counts a request at a time in microseconds. Returns the time that the request would have to wait.
    fn charge(&mut self, micros: u64) -> Option<Duration> {
        let mut call = self.script.key("caller");
        for part in [self.interval, self.tolerance] {
            call.arg(part.as_secs()).arg(part.subsec_nanos());
        }
        call.arg(micros / 1_000_000).arg(micros % 1_000_000);
        let wait: u64 = call.invoke(&mut self.connection).unwrap();
        (wait > 0).then(|| Duration::from_nanos(wait))
    }

    /// Sets the state of a caller who has sent this number of requests at this time, after a long pause.
    fn preload(&mut self, requests: u32, micros: u64) {
        let arrival = Duration::from_micros(micros) + self.interval * requests;
        let value = format!("{} {}", arrival.as_secs(), arrival.subsec_nanos());
        redis::cmd("FLUSHALL").exec(&mut self.connection).unwrap();
        redis::cmd("SET").arg("caller").arg(value).exec(&mut self.connection).unwrap();
    }
}

/// The pause before the next request.
#[derive(Clone, Copy, Debug)]
enum Pause {
    None,
    Micros(u64),
    /// One microsecond less than the wait of the last refusal.
    JustTooShort,
    JustLongEnough,
}

/// Any number up to a billion, small and large numbers equally often.
fn any_size() -> impl Strategy<Value = NonZeroU32> {
    let size = (0_u32..=9, 1_u32..=10).prop_map(|(power, times)| 10_u32.pow(power).saturating_mul(times));
    prop_oneof![1_u32..=3, size, 1_u32..=1_000_000_000]
        .prop_map(|number| NonZeroU32::new(number.min(1_000_000_000)).unwrap())
}

fn any_pause() -> impl Strategy<Value = Pause> {
    prop_oneof![
        4 => Just(Pause::None),
        2 => (0_u32..=14, 1_u64..=10).prop_map(|(power, times)| Pause::Micros(10_u64.pow(power) * times)),
        2 => Just(Pause::JustTooShort),
        2 => Just(Pause::JustLongEnough),
    ]
}

#[apply(with_redis)]
async fn script_and_governor_agree_on_every_request(redis: Redis) {
    let cases = (any_size(), any_size(), 0.0..=1.0_f64, prop::collection::vec(any_pause(), 1..40));
    check_random(150, cases, async |(per_second, burst, used, pauses)| {
        let quota = Quota::per_second(per_second).allow_burst(burst);
        let (clock, mut now) = (FakeRelativeClock::default(), START);
        let governor = RateLimiter::direct_with_clock(quota, clock.clone());
        let mut script = Script::new(&redis, quota);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the burst")]
        let used = (f64::from(burst.get()) * used) as u32;
        script.preload(used, now);
        if let Some(used) = NonZeroU32::new(used) {
            assert_eq!(governor.check_n(used), Ok(Ok(())));
        }
        let mut wait = None;
        for pause in pauses {
            let wait_nanos = wait.unwrap_or(Duration::ZERO).as_nanos();
            let micros = match pause {
                Pause::None => 0,
                Pause::Micros(micros) => micros,
                Pause::JustTooShort => u64::try_from(wait_nanos.saturating_sub(1) / 1000).unwrap(),
                Pause::JustLongEnough => u64::try_from(wait_nanos.div_ceil(1000)).unwrap(),
            };
            now += micros;
            clock.advance(Duration::from_micros(micros));
            wait = governor.check().err().map(|until| until.wait_time_from(clock.now()));
            assert_eq!(script.charge(now), wait, "{} µs after the start", now - START);
        }
    });
}

fn quota(per_second: u32, burst: u32) -> Quota {
    let [per_second, burst] = [per_second, burst].map(|number| NonZeroU32::new(number).unwrap());
    Quota::per_second(per_second).allow_burst(burst)
}

#[apply(with_redis)]
async fn clock_set_back_locks_no_caller_out(redis: Redis) {
    let mut script = Script::new(&redis, quota(10, 5));
    for _ in 0..5 {
        assert_eq!(script.charge(START), None);
    }
    assert_eq!(script.charge(START), Some(Duration::from_millis(100)));
    let an_hour_before = START - 3_600_000_000;
    assert_eq!(script.charge(an_hour_before), None);
    assert_eq!(script.charge(an_hour_before), Some(Duration::from_millis(100)), "but no second burst");
    assert_eq!(script.charge(an_hour_before + 100_000), None);
}

#[apply(with_redis)]
async fn unexpected_stored_values_lock_no_caller_out(redis: Redis) {
    let mut script = Script::new(&redis, quota(10, 5));
    script.preload(1_000_000, START); // stored under a larger burst setting
    assert_eq!(script.charge(START), None);
    assert_eq!(script.charge(START), Some(Duration::from_millis(100)));
    for unexpected in ["", " ", "nonsense", "-1 -1", "1e400 1", "1790000000123456 1 1"] {
        redis::cmd("SET").arg("caller").arg(unexpected).exec(&mut script.connection).unwrap();
        for _ in 0..5 {
            assert_eq!(script.charge(START), None, "{unexpected:?}");
        }
        assert_eq!(script.charge(START), Some(Duration::from_millis(100)), "{unexpected:?}");
    }
}
