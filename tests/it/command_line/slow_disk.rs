//! A SQLite file on a disk that is slow or nearly full: the connector reports the problem, and refuses scans early so
//! that a retry can succeed.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::checks::{new_id, retry};
use crate::support::{IDENTITY_KEYS, Process, SlowDisk, borrowed, client, scan, scan_with_key};

/// The time that a gate has for an attempt, and for all attempts.
const ATTEMPT: Duration = Duration::from_secs(2);
const BUDGET: Duration = Duration::from_secs(6);

async fn start(disk: &SlowDisk, folder: &TempDir) -> Process {
    let url = format!("sqlite://{}", folder.path().join("connector.db").display());
    let settings = [("storage.url", url.as_str()), ("rate_limit.burst", "1000000")];
    Process::with_variables(&settings, &borrowed(&disk.variables())).await
}

async fn verify(api: &str, body: &Value) -> u16 {
    let answer = client().post(format!("{api}{IDENTITY_KEYS}")).body(body.to_string()).timeout(ATTEMPT).send().await;
    answer.map_or(0, |answer| answer.status().as_u16())
}

#[apply(test)]
async fn a_slow_disk_is_detected_and_logged_with_and_without_scans() {
    let (disk, folder) = (SlowDisk::new(), TempDir::new().unwrap());
    let process = start(&disk, &folder).await;
    for scans in [4_u8, 0] {
        assert_eq!(
            (process.readiness().await.as_str(), process.metric("connector_database_slow").await),
            ("ready", 0.0)
        );
        let failures = process.metric("connector_database_failures_total").await;
        disk.set_delay(Duration::from_secs(3));
        let mut running = JoinSet::new();
        for number in 0..scans {
            let api = process.api.clone();
            running.spawn(async move { verify(&api, &scan_with_key(&[b'k', b'0' + number])).await });
        }
        assert!(running.join_all().await.iter().all(|status| *status == 500));
        process.wait_for_readiness("degraded").await;
        let figures =
            ["connector_database_up", "connector_database_slow", "connector_breaker_open{backend=\"database\"}"];
        for (name, value) in figures.into_iter().zip([0.0, 1.0, 0.0]) {
            assert_eq!(process.metric(name).await, value, "{name}");
        }
        assert!(process.metric("connector_database_failures_total").await > failures);
        let line = process.wait_for_log("a commit takes longer than 600ms: the disk of the SQLite file is slow");
        assert!(line.contains("WARN") && line.contains("connector.db"), "{line}");
        disk.set_delay(Duration::ZERO);
        process.wait_for_readiness("ready").await;
        process.wait_for_log("the disk of the SQLite file is fast enough again");
    }
}

/// Retries a scan as a gate does, until it is accepted or the budget is used up. Returns the time until it was
/// accepted, and the longest wait for a refusal.
async fn gate(api: String) -> (Option<Duration>, Duration) {
    let (began, body) = (Instant::now(), scan());
    let (mut backoff, mut longest) = (Duration::from_millis(100), Duration::ZERO);
    while began.elapsed() < BUDGET {
        let sent = Instant::now();
        if verify(&api, &retry(&body)).await == 200 {
            return (Some(began.elapsed()), longest);
        }
        longest = longest.max(sent.elapsed());
        tokio::time::sleep(backoff).await; // as a gate does between attempts
        backoff *= 2;
    }
    (None, longest)
}

/// Scans arrive at any moment of a commit. Each waits for the current commit, and then for its own.
#[apply(test)]
async fn on_a_slow_disk_scans_are_refused_early_and_a_retry_is_accepted() {
    let (disk, folder) = (SlowDisk::new(), TempDir::new().unwrap());
    let process = start(&disk, &folder).await;
    disk.set_delay(Duration::from_millis(1600));
    process.wait_for_readiness("degraded").await;
    let mut gates = JoinSet::new();
    for _ in 0..24 {
        gates.spawn(gate(process.api.clone()));
        tokio::time::sleep(Duration::from_millis(150)).await; // one gate after another
    }
    let outcomes = gates.join_all().await;
    let late = outcomes.iter().filter(|(opened, _)| opened.is_none()).count();
    assert!(late <= 2, "{late} of 24 gates stay closed: {outcomes:?}");
    let mut longest: Vec<Duration> = outcomes.iter().map(|(_, longest)| *longest).collect();
    longest.sort();
    assert!(longest[12] < Duration::from_secs(1), "half of the gates wait 1 s or longer for a refusal: {longest:?}");
    disk.set_delay(Duration::ZERO);
    process.wait_for_readiness("ready").await;
}

/// Space to overwrite a row is not enough to insert a decision. The status must not alternate between the two.
#[apply(test)]
async fn a_disk_with_8_kib_left_stays_degraded_until_space_is_free() {
    fill_disk_nearly(8 * 1024).await;
}

#[apply(test)]
async fn a_disk_with_40_kib_left_stays_degraded_until_space_is_free() {
    fill_disk_nearly(40 * 1024).await;
}

/// Sends scans with this much space left for the write-ahead log.
async fn fill_disk_nearly(free_bytes: u64) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("connector.db").display());
    let process = Process::demo(&[("storage.url", &url), ("rate_limit.burst", "1000000")]).await;
    for _ in 0..20 {
        assert_eq!(verify(&process.api, &scan()).await, 200);
    }
    let log = std::fs::metadata(folder.path().join("connector.db-wal")).unwrap().len();
    process.limit_files(Some(log + free_bytes));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        verify(&process.api, &scan_with_key(new_id().as_bytes())).await;
    }
    assert_eq!(process.readiness().await, "degraded");
    process.limit_files(None);
    process.wait_for_readiness("ready").await;
    assert_eq!(verify(&process.api, &scan()).await, 200);
    let log = process.stop().stderr;
    let changes = log.lines().filter(|line| line.contains("\"message\":\"the database ")).count();
    assert!(changes <= 4, "{changes} lines about changes of the status");
}
