//! A connector without scans detects that its database or Redis is unreachable, logs the reason, and detects the
//! recovery.

use crate::trials::{apply, with_database, with_postgres, with_redis};

use crate::engine::Database;
use crate::support::{HASH_KEY, Postgres, Process, Redis, wait_until};

async fn idle_connector(postgres: &Postgres) -> Process {
    let process = Process::demo(&[("storage.url", &postgres.database()), ("security.hash_key", HASH_KEY)]).await;
    assert_eq!((process.metric("connector_database_up").await, process.readiness().await.as_str()), (1.0, "ready"));
    process
}

/// Waits until metrics and readiness show the outage. Returns its log line.
async fn wait_for_outage(process: &Process) -> String {
    process.wait_for_metric("connector_database_up", 0.0).await;
    process.wait_for_metric("connector_breaker_open{backend=\"database\"}", 1.0).await;
    assert_eq!(process.readiness().await, "degraded");
    process.wait_for_log("the database does not answer: scans get a 500")
}

#[apply(with_postgres)]
async fn idle_connector_detects_a_killed_database(postgres: Postgres) {
    let process = idle_connector(&postgres).await;
    postgres.kill();
    let line = wait_for_outage(&process).await;
    assert!(line.contains("Connection refused") && !line.contains("pool timed out"), "{line}");
    postgres.restart();
    process.wait_for_metric("connector_database_up", 1.0).await;
    assert_eq!(process.readiness().await, "ready");
    process.wait_for_log("the database answers again");
}

#[apply(with_postgres)]
async fn idle_connector_detects_a_frozen_database(postgres: Postgres) {
    let process = idle_connector(&postgres).await;
    postgres.pause();
    let line = wait_for_outage(&process).await;
    assert!(line.contains("a new connection is not ready within 1s"), "{line}");
    postgres.resume();
    process.wait_for_metric("connector_database_up", 1.0).await;
}

#[apply(with_database)]
async fn probe_leaves_no_row_behind(database: Database) {
    let _process = Process::demo(&database.settings()).await;
    let written = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'decision'";
    wait_until("the database is probed", async || database.query(written) != "0").await;
    assert_eq!(database.query("SELECT count(*) FROM decision"), "0");
}

#[apply(with_redis)]
async fn idle_connector_detects_a_killed_redis(mut redis: Redis) {
    let process = Process::demo(&[("rate_limit.url", &redis.url())]).await;
    process.wait_for_metric("connector_rate_limit_shared", 1.0).await;
    redis.kill();
    process.wait_for_metric("connector_rate_limit_shared", 0.0).await;
    let line = process.wait_for_log("rate limits are not shared between replicas");
    assert!(line.contains("Connection refused"), "{line}");
    redis.restart();
    process.wait_for_metric("connector_rate_limit_shared", 1.0).await;
}
