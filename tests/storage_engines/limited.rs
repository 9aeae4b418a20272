//! Connectors that share a Redis, and what they let through.

use std::time::{Duration, Instant};

use crate::support::{Answer, Redis, Server, client, scan};

pub(crate) const BURST: usize = 20;

/// A caller may make twenty requests at once and one a second after that.
pub(crate) const LOW: [(&str, &str); 2] = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "20")];

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A server that has failed is asked again within half a second, and has one more to answer. Thrice that is too long.
pub(crate) const SOON: Duration = Duration::from_secs(5);

pub(crate) async fn replica(url: &str, settings: &[(&str, &str)]) -> Server {
    let settings: Vec<_> = settings.iter().copied().chain([("rate_limit.url", url)]).collect();
    Server::demo(&settings).await
}

/// Two connectors that have found their Redis.
pub(crate) async fn replicas(redis: &Redis, settings: &[(&str, &str)]) -> [Server; 2] {
    let both = [replica(&redis.url(), settings).await, replica(&redis.url(), settings).await];
    for server in &both {
        until(&server.management, PATIENCE, |metrics| metrics.shared).await;
    }
    both
}

#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) shared: bool,
    pub(crate) failures: u64,
}

/// Waits until the metrics of a management port are as they should be.
pub(crate) async fn until(management: &str, patience: Duration, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
    let deadline = Instant::now() + patience;
    loop {
        let text = client().get(format!("{management}/metrics")).send().await.unwrap().text().await.unwrap();
        let metric =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap();
        let (shared, failures): (u64, u64) =
            (metric("connector_rate_limit_shared "), metric("connector_rate_limit_failures_total "));
        let metrics = Metrics { shared: shared == 1, failures };
        if wanted(&metrics) {
            return metrics;
        }
        assert!(Instant::now() < deadline, "{metrics:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline above
    }
}

/// Whether an answer lets the request through; every other is a refusal that says when to come back.
pub(crate) fn passed(answer: &Answer) -> bool {
    match answer.status {
        200 => true,
        429 => {
            assert_eq!(answer.headers["retry-after"], "1", "one a second comes back");
            false
        }
        status => panic!("{status}: {}", String::from_utf8_lossy(&answer.body)),
    }
}

/// Makes three bursts of requests, one after the other; how many were let through. None may take long, and if each waited
/// for a server that is gone, all would take six seconds.
pub(crate) async fn passes(server: &Server) -> usize {
    let (mut passes, began) = (0, Instant::now());
    for _ in 0..3 * BURST {
        let asked = Instant::now();
        passes += usize::from(passed(&server.verify(&scan()).await));
        assert!(asked.elapsed() < Duration::from_secs(1), "a request took {:?}", asked.elapsed());
    }
    assert!(began.elapsed() < Duration::from_secs(4), "all of them took {:?}", began.elapsed());
    passes
}

/// What may be let through of one allowance since a caller was rested.
pub(crate) fn allowance(since: Instant) -> std::ops::RangeInclusive<usize> {
    BURST..=BURST + 1 + usize::try_from(since.elapsed().as_secs()).unwrap()
}

pub(crate) fn assert_one_allowance(passes: usize, since: Instant) {
    assert!(allowance(since).contains(&passes), "{passes} requests were let through, not {:?}", allowance(since));
}
