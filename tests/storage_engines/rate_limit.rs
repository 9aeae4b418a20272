//! Rate limits across replicas, as a caller meets them: two connectors with one Redis, which comes and goes.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use tokio::task::JoinSet;

use crate::checks::PATIENCE;
use crate::engine::{on_a_redis_of_its_own, properties};
use crate::limited::{BURST, LOW, assert_one_allowance, passed, passes, replica, replicas, undisturbed, until};
use crate::support::certificates::Authority;
use crate::support::{Answer, IDENTITY_KEYS, Process, Redis, Server, client, free_port, scan};

pub(crate) fn trials() -> Vec<Trial> {
    let properties = properties![
        two_replicas_share_one_allowance,
        requests_at_the_same_instant_share_one_allowance,
        callers_are_told_apart_on_every_replica,
        nothing_is_left_behind_by_callers_who_have_rested,
        a_server_that_is_killed_costs_no_request_and_is_used_again_once_it_is_back,
        a_server_that_is_stopped_costs_no_request_and_is_used_again_once_it_goes_on,
        a_server_that_may_not_write_is_left_alone_until_it_may,
        a_server_that_is_down_does_not_stop_the_start,
        a_server_that_speaks_no_tls_costs_no_request,
        a_server_is_believed_that_our_own_authority_vouches_for,
        callers_beyond_the_limit_share_one_allowance_and_take_no_room,
        one_line_says_when_it_begins_and_one_when_it_is_over,
        a_wrong_password_is_a_line_in_the_log_and_not_shown_there,
    ];
    on_a_redis_of_its_own(module_path!(), properties)
}

async fn two_replicas_share_one_allowance(redis: Redis) {
    let both = replicas(&redis, &LOW).await;
    let (began, [of_one, of_other]) = undisturbed(&redis, &both, async || {
        let (began, mut passes) = (Instant::now(), [0; 2]);
        for _ in 0..3 * BURST {
            for (server, passes) in both.iter().zip(&mut passes) {
                *passes += usize::from(passed(&server.verify(&scan()).await));
            }
        }
        (began, passes)
    })
    .await;
    assert_one_allowance(of_one + of_other, began);
    assert!(of_one >= BURST / 2 && of_other >= BURST / 2, "{of_one} and {of_other}");
}

async fn requests_at_the_same_instant_share_one_allowance(redis: Redis) {
    let both = replicas(&redis, &LOW).await;
    let (began, answers) = undisturbed(&redis, &both, async || {
        let (began, mut requests) = (Instant::now(), JoinSet::new());
        for number in 0..4 * BURST {
            let (url, body) = (format!("{}{IDENTITY_KEYS}", both[number % 2].api), scan().to_string());
            requests.spawn(async move { Answer::of(client().post(url).body(body).send().await.unwrap()).await });
        }
        (began, requests.join_all().await)
    })
    .await;
    assert_one_allowance(answers.iter().filter(|answer| passed(answer)).count(), began);
}

async fn callers_are_told_apart_on_every_replica(redis: Redis) {
    let both = replicas(&redis, &[LOW[0], LOW[1], ("server.trusted_proxies", "127.0.0.1")]).await;
    for callers in [["192.0.2.1", "192.0.2.1"], ["192.0.2.2", "::ffff:192.0.2.2"], ["2001:db8::1", "2001:db8::2"]] {
        let (began, passes) = undisturbed(&redis, &both, async || {
            let (began, mut passes) = (Instant::now(), 0);
            for _ in 0..2 * BURST {
                for (server, caller) in both.iter().zip(callers) {
                    let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api));
                    let request = request.header("x-forwarded-for", caller).body(scan().to_string());
                    passes += usize::from(passed(&Answer::of(request.send().await.unwrap()).await));
                }
            }
            (began, passes)
        })
        .await;
        assert_one_allowance(passes, began);
    }
}

async fn nothing_is_left_behind_by_callers_who_have_rested(redis: Redis) {
    let [one, other] = replicas(&redis, &[("rate_limit.requests_per_second", "10"), LOW[1]]).await;
    for server in [&one, &other] {
        server.verify(&scan()).await;
    }
    let mut connection = redis.connection();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    assert!(keys.iter().all(|key| key.starts_with("connector:rate_limit:")), "{keys:?}");
    drop([one, other]); // or they would go on asking whether it is there
    let deadline = Instant::now() + PATIENCE;
    while redis::cmd("DBSIZE").query::<u64>(&mut connection).unwrap() > 0 {
        assert!(Instant::now() < deadline, "still there: {keys:?}");
        tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline above
    }
}

/// Takes the server away from two connectors and gives it back.
async fn a_server_that_is_gone_costs_no_request(mut redis: Redis, go: fn(&mut Redis), back: fn(&mut Redis)) {
    let both = replicas(&redis, &LOW).await;
    assert_shared(&redis, &both).await;
    let failures = until(&both[0].management, |_| true).await.failures;

    go(&mut redis);
    for server in &both {
        let began = Instant::now();
        assert!(passed(&server.verify(&scan()).await), "the request that finds out");
        assert_one_allowance(1 + passes(server).await, began);
        let metrics = until(&server.management, |metrics| !metrics.shared).await;
        assert!(metrics.failures > failures, "{metrics:?}");
    }

    back(&mut redis);
    for server in &both {
        until(&server.management, |metrics| metrics.shared).await;
    }
    assert_shared(&redis, &both).await;
}

/// Both connectors together let through one allowance.
async fn assert_shared(redis: &Redis, both: &[Server; 2]) {
    let (began, passes) = undisturbed(redis, both, async || {
        let began = Instant::now();
        (began, passes(&both[0]).await + passes(&both[1]).await)
    })
    .await;
    assert_one_allowance(passes, began);
}

async fn a_server_that_is_killed_costs_no_request_and_is_used_again_once_it_is_back(redis: Redis) {
    a_server_that_is_gone_costs_no_request(redis, Redis::kill, Redis::restart).await;
}

async fn a_server_that_is_stopped_costs_no_request_and_is_used_again_once_it_goes_on(redis: Redis) {
    a_server_that_is_gone_costs_no_request(redis, |redis| redis.stop(), |redis| redis.cont()).await;
}

async fn a_server_that_may_not_write_is_left_alone_until_it_may(redis: Redis) {
    let [server, _] = replicas(&redis, &LOW).await;
    let replica_of = |host: &str, port: &str| {
        redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut redis.connection()).unwrap();
    };
    replica_of("127.0.0.1", "1");
    let lost = until(&server.management, |metrics| !metrics.shared).await;
    until(&server.management, |metrics| {
        assert!(!metrics.shared, "tried on a request, {metrics:?}");
        metrics.failures >= lost.failures + 3
    })
    .await;
    passes(&server).await;
    replica_of("NO", "ONE");
    until(&server.management, |metrics| metrics.shared).await;
}

async fn a_server_that_is_down_does_not_stop_the_start(mut redis: Redis) {
    redis.kill();
    let began = Instant::now();
    let server = replica(&redis.url(), &LOW).await;
    assert_one_allowance(passes(&server).await, began);
    assert!(!until(&server.management, |metrics| metrics.failures > 0).await.shared);
    redis.restart();
    until(&server.management, |metrics| metrics.shared).await;
    let began = Instant::now();
    assert_one_allowance(passes(&server).await, began);
}

async fn a_server_that_speaks_no_tls_costs_no_request(redis: Redis) {
    let server = replica(&redis.url().replace("redis://", "rediss://"), &LOW).await;
    let began = Instant::now();
    assert_one_allowance(passes(&server).await, began);
    let tried = until(&server.management, |metrics| metrics.failures >= 2).await;
    assert!(!tried.shared, "{tried:?}");
}

async fn a_server_is_believed_that_our_own_authority_vouches_for(redis: Redis) {
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
    until(&server.management, |metrics| metrics.shared).await;
    let stranger = replica(&url, &[("rate_limit.ca", &others)]).await;
    assert!(!until(&stranger.management, |metrics| metrics.failures >= 2).await.shared);
    let plain = Server::try_demo(&[("rate_limit.url", &redis.url()), ("rate_limit.ca", &ca)]).await;
    assert!(plain.err().unwrap().contains("rate_limit.ca = "), "it is for TLS");
}

async fn callers_beyond_the_limit_share_one_allowance_and_take_no_room(redis: Redis) {
    const CALLERS: usize = 10;
    let settings = [LOW[0], LOW[1], ("rate_limit.max_callers", "10"), ("server.trusted_proxies", "127.0.0.1")];
    let both = replicas(&redis, &settings).await;
    let (began, passes) = undisturbed(&redis, &both, async || {
        let (began, mut passes) = (Instant::now(), 0);
        for number in 0..60 {
            let server = &both[number % 2];
            let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api));
            let request = request.header("x-forwarded-for", format!("192.0.2.{number}")).body(scan().to_string());
            passes += usize::from(passed(&Answer::of(request.send().await.unwrap()).await));
        }
        (began, passes)
    })
    .await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*:192.0.2.*").query(&mut redis.connection()).unwrap();
    assert!(keys.len() <= CALLERS, "{keys:?}");
    // Each caller has rested after a second, and leaves room for another.
    let rested = usize::try_from(began.elapsed().as_secs()).unwrap() * CALLERS;
    let expected = CALLERS + BURST..=CALLERS + BURST + 1 + usize::try_from(began.elapsed().as_secs()).unwrap() + rested;
    assert!(expected.contains(&passes), "{passes} requests were let through, not {expected:?}");
}

async fn one_line_says_when_it_begins_and_one_when_it_is_over(redis: Redis) {
    let process = Process::demo(&[("rate_limit.url", &redis.url())]).await;
    until(&process.management, |metrics| metrics.shared).await;
    redis.stop();
    let mut requests = JoinSet::new();
    for _ in 0..3 * BURST {
        let (url, body) = (format!("{}{IDENTITY_KEYS}", process.api), scan().to_string());
        requests.spawn(async move { Answer::of(client().post(url).body(body).send().await.unwrap()).await });
    }
    assert!(requests.join_all().await.iter().all(passed));
    let lost = until(&process.management, |metrics| !metrics.shared).await;
    until(&process.management, |metrics| metrics.failures > lost.failures + 1).await;
    redis.cont();
    until(&process.management, |metrics| metrics.shared).await;
    process.signal("TERM");
    let log = process.ended().stderr;
    let told: Vec<&str> = log.lines().filter(|line| line.contains("across replicas")).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    for (line, level) in told.iter().zip(["INFO", "WARN", "INFO"]) {
        assert!(line.contains(level), "{told:#?}");
    }
    assert!(!log.contains(redis.password()), "{log}");
}

async fn a_wrong_password_is_a_line_in_the_log_and_not_shown_there(redis: Redis) {
    let url = format!("redis://:another-password@127.0.0.1:{}", redis.port());
    let process = Process::demo(&[("rate_limit.url", &url)]).await;
    until(&process.management, |metrics| metrics.failures >= 2).await;
    process.signal("TERM");
    let log = process.ended().stderr;
    let told = log.lines().filter(|line| line.contains("across replicas")).count();
    assert!(told == 1 && !log.contains("another-password"), "{log}");
}
