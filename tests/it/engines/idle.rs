//! A connector without scans detects that its database or Redis is unreachable, logs the reason, and detects the
//! recovery.

use crate::trials::{apply, with_database, with_postgres, with_redis};
use std::time::Duration;

use serde_json::Value;

use crate::engine::Database;
use crate::engines::outage::wait_until;
use crate::support::{HASH_KEY, Postgres, Process, Redis, client};

/// The time limit for detection: 15 s, and a margin for a busy machine.
const DETECTION_LIMIT: Duration = Duration::from_secs(25);

async fn metric(process: &Process, name: &str) -> Option<f64> {
    let answer = client().get(format!("{}/metrics", process.management)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

async fn wait_for_metric(process: &Process, name: &str, value: f64) {
    wait_until(DETECTION_LIMIT, &format!("{name} {value}"), async || metric(process, name).await == Some(value)).await;
}

async fn readiness(process: &Process) -> String {
    let answer = client().get(format!("{}/readyz", process.management)).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["status"].as_str().unwrap().to_owned()
}

async fn idle_connector(postgres: &Postgres) -> Process {
    let process = Process::demo(&[("storage.url", &postgres.database()), ("security.hash_key", HASH_KEY)]).await;
    assert_eq!(
        (metric(&process, "connector_database_up").await, readiness(&process).await.as_str()),
        (Some(1.0), "ready")
    );
    process
}

/// Waits until metrics and readiness show the outage. Returns its log line.
async fn wait_for_outage(process: &Process) -> String {
    wait_for_metric(process, "connector_database_up", 0.0).await;
    wait_for_metric(process, "connector_breaker_open{backend=\"database\"}", 1.0).await;
    assert_eq!(readiness(process).await, "degraded");
    process.wait_for_log("the database does not answer: scans get a 500")
}

#[apply(with_postgres)]
async fn idle_connector_detects_a_killed_database(postgres: Postgres) {
    let process = idle_connector(&postgres).await;
    postgres.kill();
    let line = wait_for_outage(&process).await;
    assert!(line.contains("Connection refused") && !line.contains("pool timed out"), "{line}");
    postgres.restart();
    wait_for_metric(&process, "connector_database_up", 1.0).await;
    assert_eq!(readiness(&process).await, "ready");
    process.wait_for_log("the database answers again");
}

#[apply(with_postgres)]
async fn idle_connector_detects_a_frozen_database(postgres: Postgres) {
    let process = idle_connector(&postgres).await;
    postgres.pause();
    let line = wait_for_outage(&process).await;
    assert!(line.contains("a new connection is not ready within 1s"), "{line}");
    postgres.resume();
    wait_for_metric(&process, "connector_database_up", 1.0).await;
}

#[apply(with_database)]
async fn probe_leaves_no_row_behind(database: Database) {
    let _process = Process::demo(&database.settings()).await;
    let written = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'decision'";
    wait_until(DETECTION_LIMIT, "the database is probed", async || database.query(written) != "0").await;
    let rows = "SELECT (SELECT count(*) FROM decision) + (SELECT count(*) FROM session)";
    assert_eq!(database.query(rows), "0");
}

#[apply(with_redis)]
async fn idle_connector_detects_a_killed_redis(mut redis: Redis) {
    let process = Process::demo(&[("rate_limit.url", &redis.url())]).await;
    wait_for_metric(&process, "connector_rate_limit_shared", 1.0).await;
    redis.kill();
    wait_for_metric(&process, "connector_rate_limit_shared", 0.0).await;
    let line = process.wait_for_log("rate limits are not shared between replicas");
    assert!(line.contains("Connection refused"), "{line}");
    redis.restart();
    wait_for_metric(&process, "connector_rate_limit_shared", 1.0).await;
}
