//! Rate limits across replicas: two connectors with one Redis, also during outages of Redis.

use crate::trials::{apply, with_redis};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::checks::{PATIENCE, assert_most_within, repeat_until, wait_until};
use crate::support::certificates::Authority;
use crate::support::{Answer, IDENTITY_KEYS, Process, Redis, Server, client, free_port, scan};

const BURST: usize = 20;

/// A caller may send a burst of twenty requests, and then one a second.
const LOW_LIMITS: [(&str, &str); 2] = [("rate_limit.requests_per_second", "1"), ("rate_limit.burst", "20")];

/// The time limit of a request to Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(100);

async fn replica(url: &str, settings: &[(&str, &str)]) -> Server {
    let settings: Vec<_> = settings.iter().copied().chain([("rate_limit.url", url)]).collect();
    Server::demo(&settings).await
}

/// Two connectors that are connected to Redis.
async fn replicas(redis: &Redis, settings: &[(&str, &str)]) -> [Server; 2] {
    let both = [replica(&redis.url(), settings).await, replica(&redis.url(), settings).await];
    for server in &both {
        wait_for_metrics(&server.management, |metrics| metrics.shared).await;
    }
    both
}

#[derive(Debug)]
struct Metrics {
    shared: bool,
    failures: u64,
}

/// Waits until the metrics of a management port meet the condition.
async fn wait_for_metrics(management: &str, condition: impl Fn(&Metrics) -> bool) -> Metrics {
    let read = async || {
        let text = client().get(format!("{management}/metrics")).send().await.unwrap().text().await.unwrap();
        let metric =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
        let shared = metric("connector_rate_limit_shared ") == 1;
        Metrics { shared, failures: metric("connector_rate_limit_failures_total ") }
    };
    repeat_until("the metrics of the rate limits", read, condition).await
}

/// Repeats an attempt, each time with full allowances, until both connectors have reached Redis for every request. On a
/// busy machine Redis may not answer within its 100 ms, and the connector then counts locally.
async fn repeat_until_undisturbed<T>(redis: &Redis, both: &[Server; 2], mut attempt: impl AsyncFnMut() -> T) -> T {
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
fn is_allowed(answer: &Answer) -> bool {
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
async fn count_allowed(server: &Server) -> usize {
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
fn allowance(since: Instant) -> std::ops::RangeInclusive<usize> {
    BURST..=BURST + 1 + usize::try_from(since.elapsed().as_secs()).unwrap()
}

fn assert_one_allowance(allowed: usize, since: Instant) {
    assert!(allowance(since).contains(&allowed), "{allowed} requests were allowed, not {:?}", allowance(since));
}

#[apply(with_redis)]
async fn simultaneous_requests_share_one_allowance(redis: Redis) {
    let both = replicas(&redis, &LOW_LIMITS).await;
    let (began, answers) = repeat_until_undisturbed(&redis, &both, async || {
        let (began, mut requests) = (Instant::now(), JoinSet::new());
        for number in 0..4 * BURST {
            let (url, body) = (format!("{}{IDENTITY_KEYS}", both[number % 2].api), scan().to_string());
            requests.spawn(async move { Answer::read(client().post(url).body(body).send().await.unwrap()).await });
        }
        (began, requests.join_all().await)
    })
    .await;
    assert_one_allowance(answers.iter().filter(|answer| is_allowed(answer)).count(), began);
}

/// Whether a request of this caller is allowed.
async fn is_caller_allowed(server: &Server, caller: &str) -> bool {
    let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api));
    let request = request.header("x-forwarded-for", caller).body(scan().to_string());
    is_allowed(&Answer::read(request.send().await.unwrap()).await)
}

#[apply(with_redis)]
async fn callers_are_distinguished_on_every_replica(redis: Redis) {
    let both = replicas(&redis, &[LOW_LIMITS[0], LOW_LIMITS[1], ("server.trusted_proxies", "127.0.0.1")]).await;
    for callers in [["192.0.2.1", "192.0.2.1"], ["192.0.2.2", "::ffff:192.0.2.2"], ["2001:db8::1", "2001:db8::2"]] {
        let (began, allowed) = repeat_until_undisturbed(&redis, &both, async || {
            let (began, mut allowed) = (Instant::now(), 0);
            for _ in 0..2 * BURST {
                for (server, caller) in both.iter().zip(callers) {
                    allowed += usize::from(is_caller_allowed(server, caller).await);
                }
            }
            (began, allowed)
        })
        .await;
        assert_one_allowance(allowed, began);
    }
}

#[apply(with_redis)]
async fn keys_of_idle_callers_expire(redis: Redis) {
    let [first, second] = replicas(&redis, &[("rate_limit.requests_per_second", "10"), LOW_LIMITS[1]]).await;
    for server in [&first, &second] {
        server.verify(&scan()).await;
    }
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert!(keys.iter().all(|key| key.starts_with("connector:rate_limit:")), "{keys:?}");
    drop([first, second]); // otherwise they would keep testing the connection
    wait_until("the keys expire", async || redis::cmd("DBSIZE").query::<u64>(&mut connection).unwrap() == 0).await;
}

/// An outage of Redis for two connectors, and its recovery.
async fn assert_outage_fails_no_request(mut redis: Redis, fail: fn(&mut Redis), recover: fn(&mut Redis)) {
    let both = replicas(&redis, &LOW_LIMITS).await;
    assert_shared(&redis, &both).await;
    let failures = wait_for_metrics(&both[0].management, |_| true).await.failures;

    fail(&mut redis);
    for server in &both {
        let began = Instant::now();
        assert!(is_allowed(&server.verify(&scan()).await), "the request that detects the outage");
        assert_one_allowance(1 + count_allowed(server).await, began);
        let metrics = wait_for_metrics(&server.management, |metrics| !metrics.shared).await;
        assert!(metrics.failures > failures, "{metrics:?}");
    }

    recover(&mut redis);
    for server in &both {
        wait_for_metrics(&server.management, |metrics| metrics.shared).await;
    }
    assert_shared(&redis, &both).await;
}

/// Asserts that both connectors together allow one allowance.
async fn assert_shared(redis: &Redis, both: &[Server; 2]) {
    let (began, allowed) = repeat_until_undisturbed(redis, both, async || {
        let began = Instant::now();
        (began, count_allowed(&both[0]).await + count_allowed(&both[1]).await)
    })
    .await;
    assert_one_allowance(allowed, began);
}

#[apply(with_redis)]
async fn killed_server_fails_no_request_and_is_used_again(redis: Redis) {
    assert_outage_fails_no_request(redis, Redis::kill, Redis::restart).await;
}

#[apply(with_redis)]
async fn frozen_server_fails_no_request_and_is_used_again(redis: Redis) {
    assert_outage_fails_no_request(redis, |redis| redis.stop(), |redis| redis.continue_process()).await;
}

#[apply(with_redis)]
async fn read_only_server_is_not_used_until_it_accepts_writes(redis: Redis) {
    let [server, _] = replicas(&redis, &LOW_LIMITS).await;
    let replica_of = |host: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut redis.connection()).unwrap();
    };
    replica_of("127.0.0.1", "1");
    let lost = wait_for_metrics(&server.management, |metrics| !metrics.shared).await;
    wait_for_metrics(&server.management, |metrics| {
        assert!(!metrics.shared, "used although it is read-only: {metrics:?}");
        metrics.failures >= lost.failures + 3
    })
    .await;
    count_allowed(&server).await;
    replica_of("NO", "ONE");
    wait_for_metrics(&server.management, |metrics| metrics.shared).await;
}

#[apply(with_redis)]
async fn unreachable_server_does_not_prevent_the_start(mut redis: Redis) {
    redis.kill();
    let began = Instant::now();
    let server = replica(&redis.url(), &LOW_LIMITS).await;
    assert_one_allowance(count_allowed(&server).await, began);
    assert!(!wait_for_metrics(&server.management, |metrics| metrics.failures > 0).await.shared);
    redis.restart();
    wait_for_metrics(&server.management, |metrics| metrics.shared).await;
    let began = Instant::now();
    assert_one_allowance(count_allowed(&server).await, began);
}

#[apply(with_redis)]
async fn server_without_tls_fails_no_request(redis: Redis) {
    let server = replica(&redis.url().replace("redis://", "rediss://"), &LOW_LIMITS).await;
    let began = Instant::now();
    assert_one_allowance(count_allowed(&server).await, began);
    let tried = wait_for_metrics(&server.management, |metrics| metrics.failures >= 2).await;
    assert!(!tried.shared, "{tried:?}");
}

#[apply(with_redis)]
async fn server_certificate_is_checked_against_the_configured_ca(redis: Redis) {
    let (ours, folder) = (Authority::new("ours"), tempfile::TempDir::new().unwrap());
    let shown = ours.server();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [ca, certificate, key] =
        [("ca.pem", ours.pem()), ("certificate.pem", shown.certificate), ("key.pem", shown.key)]
            .map(|(name, content)| file(name, &content));
    let others = file("others.pem", &Authority::new("others").pem());
    let port = free_port();
    let mut config = redis::cmd("CONFIG");
    config.arg("SET").arg(&["tls-cert-file", &certificate, "tls-key-file", &key, "tls-ca-cert-file", &ca]);
    config.arg(&["tls-auth-clients", "no", "tls-port", &port.to_string()]).exec(&mut redis.connection()).unwrap();
    let url = format!("rediss://:{}@localhost:{port}", redis.password());
    let server = replica(&url, &[("rate_limit.ca", &ca)]).await;
    wait_for_metrics(&server.management, |metrics| metrics.shared).await;
    let stranger = replica(&url, &[("rate_limit.ca", &others)]).await;
    assert!(!wait_for_metrics(&stranger.management, |metrics| metrics.failures >= 2).await.shared);
    let plain = Server::try_demo(&[("rate_limit.url", &redis.url()), ("rate_limit.ca", &ca)]).await;
    assert!(plain.err().unwrap().contains("rate_limit.ca = "), "rate_limit.ca requires TLS");
}

#[apply(with_redis)]
async fn callers_beyond_the_limit_share_one_allowance(redis: Redis) {
    const CALLERS: usize = 10;
    let settings =
        [LOW_LIMITS[0], LOW_LIMITS[1], ("rate_limit.max_callers", "10"), ("server.trusted_proxies", "127.0.0.1")];
    let both = replicas(&redis, &settings).await;
    let (began, allowed) = repeat_until_undisturbed(&redis, &both, async || {
        let (began, mut allowed) = (Instant::now(), 0);
        for number in 0..60 {
            allowed += usize::from(is_caller_allowed(&both[number % 2], &format!("192.0.2.{number}")).await);
        }
        (began, allowed)
    })
    .await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:192.0.2.*").query(&mut redis.connection()).unwrap();
    assert!(keys.len() <= CALLERS, "{keys:?}");
    // A caller's key expires after a second, so that another caller can have one.
    let rested = usize::try_from(began.elapsed().as_secs()).unwrap() * CALLERS;
    let expected = CALLERS + BURST..=CALLERS + BURST + 1 + usize::try_from(began.elapsed().as_secs()).unwrap() + rested;
    assert!(expected.contains(&allowed), "{allowed} requests were allowed, not {expected:?}");
}

#[apply(with_redis)]
async fn outage_is_logged_once_at_its_beginning_and_once_at_its_end(redis: Redis) {
    let process = Process::demo(&[("rate_limit.url", &redis.url())]).await;
    wait_for_metrics(&process.management, |metrics| metrics.shared).await;
    redis.stop();
    let mut requests = JoinSet::new();
    for _ in 0..3 * BURST {
        let (url, body) = (format!("{}{IDENTITY_KEYS}", process.api), scan().to_string());
        requests.spawn(async move { Answer::read(client().post(url).body(body).send().await.unwrap()).await });
    }
    assert!(requests.join_all().await.iter().all(is_allowed));
    let lost = wait_for_metrics(&process.management, |metrics| !metrics.shared).await;
    wait_for_metrics(&process.management, |metrics| metrics.failures > lost.failures + 1).await;
    redis.continue_process();
    wait_for_metrics(&process.management, |metrics| metrics.shared).await;
    process.signal("TERM");
    let log = process.wait_for_end().stderr;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("replicas")).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    for (line, level) in lines.iter().zip(["INFO", "WARN", "INFO"]) {
        assert!(line.contains(level), "{lines:#?}");
    }
    assert!(!log.contains(redis.password()), "{log}");
}

#[apply(with_redis)]
async fn wrong_password_is_logged_once_and_never_shown(redis: Redis) {
    let url = format!("redis://:another-password@127.0.0.1:{}", redis.port());
    let process = Process::demo(&[("rate_limit.url", &url)]).await;
    wait_for_metrics(&process.management, |metrics| metrics.failures >= 2).await;
    process.signal("TERM");
    let log = process.wait_for_end().stderr;
    let lines = log.lines().filter(|line| line.contains("replicas")).count();
    assert!(lines == 1 && !log.contains("another-password"), "{log}");
}
