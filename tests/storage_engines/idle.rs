//! A connector that no gate asks finds out by itself that its database or its Redis is gone, says why, and finds out that it is back.

use std::time::Duration;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::engine::{on_a_postgres_of_its_own, on_a_redis_of_its_own, properties};
use crate::outage::until;
use crate::support::{HASH_KEY, Postgres, Process, Redis, client};

pub(crate) fn trials() -> Vec<Trial> {
    let postgres = on_a_postgres_of_its_own(
        module_path!(),
        properties![
            a_server_that_is_gone_is_noticed_without_a_scan,
            a_server_that_stands_still_is_noticed_without_a_scan,
            a_check_leaves_no_row_behind,
        ],
    );
    let redis = on_a_redis_of_its_own(module_path!(), properties![a_redis_that_is_gone_is_noticed_without_a_scan]);
    postgres.into_iter().chain(redis).collect()
}

/// 15 s, and a margin for a busy machine.
const NOTICED: Duration = Duration::from_secs(25);

async fn metric(process: &Process, name: &str) -> Option<f64> {
    let answer = client().get(format!("{}/metrics", process.management)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn is(process: &Process, name: &str, value: f64) {
    until(NOTICED, &format!("{name} {value}"), async || metric(process, name).await == Some(value)).await;
}

async fn readiness(process: &Process) -> String {
    let answer = client().get(format!("{}/readyz", process.management)).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned()
}

async fn idle(postgres: &Postgres) -> Process {
    let process = Process::demo(&[("storage.url", &postgres.database()), ("security.hash_key", HASH_KEY)]).await;
    assert_eq!(
        (metric(&process, "connector_database_up").await, readiness(&process).await.as_str()),
        (Some(1.0), "ready")
    );
    process
}

/// What the log says once the metrics say it.
async fn noticed(process: &Process) -> String {
    is(process, "connector_database_up", 0.0).await;
    is(process, "connector_breaker_open{backend=\"database\"}", 1.0).await;
    assert_eq!(readiness(process).await, "degraded");
    process.logged("the database does not answer: scans get a 500")
}

async fn a_server_that_is_gone_is_noticed_without_a_scan(postgres: Postgres) {
    let process = idle(&postgres).await;
    postgres.kill();
    let line = noticed(&process).await;
    assert!(line.contains("Connection refused") && !line.contains("pool timed out"), "{line}");
    postgres.restart();
    is(&process, "connector_database_up", 1.0).await;
    assert_eq!(readiness(&process).await, "ready");
    process.logged("the database answers again");
}

async fn a_server_that_stands_still_is_noticed_without_a_scan(postgres: Postgres) {
    let process = idle(&postgres).await;
    postgres.pause();
    let line = noticed(&process).await;
    assert!(line.contains("a new connection is not ready within 1s"), "{line}");
    postgres.resume();
    is(&process, "connector_database_up", 1.0).await;
}

async fn a_check_leaves_no_row_behind(postgres: Postgres) {
    let url = postgres.database();
    let _process = Process::demo(&[("storage.url", &url), ("security.hash_key", HASH_KEY)]).await;
    let written = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'decision'";
    until(NOTICED, "it is checked", async || postgres.query(&url, written).trim() != "0").await;
    let rows = "SELECT (SELECT count(*) FROM decision) + (SELECT count(*) FROM session)";
    assert_eq!(postgres.query(&url, rows).trim(), "0");
}

async fn a_redis_that_is_gone_is_noticed_without_a_scan(mut redis: Redis) {
    let process = Process::demo(&[("rate_limit.url", &redis.url())]).await;
    is(&process, "connector_rate_limit_shared", 1.0).await;
    redis.kill();
    is(&process, "connector_rate_limit_shared", 0.0).await;
    let line = process.logged("rate limits are not shared between replicas");
    assert!(line.contains("Connection refused"), "{line}");
    redis.restart();
    is(&process, "connector_rate_limit_shared", 1.0).await;
}
