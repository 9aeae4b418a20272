//! Helpers for connectors that share rate limits in Redis.

use std::time::{Duration, Instant};

use crate::checks::{PATIENCE, assert_most_within};
use crate::support::{Answer, Redis, Server, client, scan};

pub(crate) const BURST: usize = 20;

/// A caller may send a burst of twenty requests, and then one a second.
pub(crate) const LOW_LIMITS: [(&str, &str); 2] = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "20")];

/// The time limit of a request to Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

pub(crate) async fn replica(url: &str, settings: &[(&str, &str)]) -> Server {
    let settings: Vec<_> = settings.iter().copied().chain([("rate_limit.url", url)]).collect();
    Server::demo(&settings).await
}

/// Two connectors that are connected to Redis.
pub(crate) async fn replicas(redis: &Redis, settings: &[(&str, &str)]) -> [Server; 2] {
    let both = [replica(&redis.url(), settings).await, replica(&redis.url(), settings).await];
    for server in &both {
        wait_for_metrics(&server.management, |metrics| metrics.shared).await;
    }
    both
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) shared: bool,
    pub(crate) failures: u64,
}

/// Waits until the metrics of a management port meet the condition.
pub(crate) async fn wait_for_metrics(management: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = client().get(format!("{management}/metrics")).send().await.unwrap().text().await.unwrap();
        let metric =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap();
        let (shared, failures): (u64, u64) =
            (metric("connector_rate_limit_shared "), metric("connector_rate_limit_failures_total "));
        let metrics = Metrics { shared: shared == 1, failures };
        if condition(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "{metrics:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // poll until the deadline above
    }
}

/// Repeats an attempt, each time with full allowances, until both connectors have reached Redis for every request. On a
/// busy machine Redis may not answer within its 100 ms, and the connector then counts locally.
pub(crate) async fn repeat_until_undisturbed<T>(
    redis: &Redis,
    both: &[Server; 2],
    mut attempt: impl AsyncFnMut() -> T,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut failures = [0; 2];
        for (server, failures) in both.iter().zip(&mut failures) {
            *failures = wait_for_metrics(&server.management, |metrics| metrics.shared).await.failures;
        }
        redis::cmd("FLUSHALL").exec(&mut redis.connection()).unwrap();
        let outcome = attempt().await;
        let mut is_undisturbed = true;
        for (server, failures) in both.iter().zip(failures) {
            is_undisturbed &= wait_for_metrics(&server.management, |_| true).await.failures == failures;
        }
        if is_undisturbed {
            return outcome;
        }
        assert!(Instant::now() < deadline, "Redis is too slow");
    }
}

/// Whether the request was allowed. Otherwise the answer must be a 429 with `retry-after`.
pub(crate) fn is_allowed(answer: &Answer) -> bool {
    match answer.status {
        200 => true,
        429 => {
            assert_eq!(answer.headers["retry-after"], "1", "one request a second is allowed again");
            false
        }
        status => panic!("{status}: {}", String::from_utf8_lossy(&answer.body)),
    }
}

/// Sends three bursts of requests one after another, and returns the number that was allowed. None may wait for a Redis
/// that is unreachable.
pub(crate) async fn count_allowed(server: &Server) -> usize {
    let (mut allowed, mut took) = (0, Vec::new());
    for _ in 0..3 * BURST {
        let asked = Instant::now();
        allowed += usize::from(is_allowed(&server.verify(&scan()).await));
        took.push(asked.elapsed());
    }
    assert_most_within(80, REDIS_TIMEOUT, &took, "a request");
    allowed
}

/// The maximum number of requests that one allowance permits since it was full.
pub(crate) fn allowance(since: Instant) -> std::ops::RangeInclusive<usize> {
    BURST..=BURST + 1 + usize::try_from(since.elapsed().as_secs()).unwrap()
}

pub(crate) fn assert_one_allowance(allowed: usize, since: Instant) {
    assert!(allowance(since).contains(&allowed), "{allowed} requests were allowed, not {:?}", allowance(since));
}
