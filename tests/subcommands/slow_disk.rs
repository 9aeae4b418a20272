//! A SQLite file on a disk that is slow or nearly full: the connector says so, and gates get their answer as soon as there is one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::checks::{PATIENCE, new_id, retry};
use crate::support::{IDENTITY_KEYS, Process, SlowDisk, client, scan, scan_with_key};

/// What a gate may take: 2 s an attempt, and 6 s in all.
const ATTEMPT: Duration = Duration::from_secs(2);
const BUDGET: Duration = Duration::from_secs(6);

async fn start(disk: &SlowDisk, folder: &TempDir) -> Process {
    let url = format!("sqlite://{}", folder.path().join("connector.db").display());
    let settings = [("storage.url", url.as_str()), ("rate_limit.burst", "1000000")];
    let variables = disk.variables();
    let variables = variables.each_ref().map(|(name, value)| (name.as_str(), value.as_str()));
    Process::with_variables(&settings, &variables).await
}

async fn get(process: &Process, path: &str) -> String {
    client().get(format!("{}{path}", process.management)).send().await.unwrap().text().await.unwrap()
}

async fn metric(process: &Process, name: &str) -> f64 {
    let text = get(process, "/metrics").await;
    text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

async fn status(process: &Process) -> Value {
    let answer: Value = serde_json::from_str(&get(process, "/readyz").await).unwrap();
    answer.get("status").unwrap().clone()
}

async fn becomes(process: &Process, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while status(process).await != wanted {
        assert!(Instant::now() < deadline, "it does not become {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline
    }
}

async fn verify(api: &str, body: &Value) -> u16 {
    let answer = client().post(format!("{api}{IDENTITY_KEYS}")).body(body.to_string()).timeout(ATTEMPT).send().await;
    answer.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_is_noticed_and_named_with_and_without_scans() {
    let (disk, folder) = (SlowDisk::new(), TempDir::new().unwrap());
    let process = start(&disk, &folder).await;
    for scans in [4_u8, 0] {
        assert_eq!((status(&process).await, metric(&process, "connector_database_slow ").await), (json!("ready"), 0.0));
        let failures = metric(&process, "connector_database_failures_total ").await;
        disk.set_delay(Duration::from_secs(3));
        let mut running = JoinSet::new();
        for number in 0..scans {
            let api = process.api.clone();
            running.spawn(async move { verify(&api, &scan_with_key(&[b'k', b'0' + number])).await });
        }
        assert!(running.join_all().await.iter().all(|status| *status == 500));
        becomes(&process, "degraded").await;
        let figures =
            ["connector_database_up ", "connector_database_slow ", "connector_breaker_open{backend=\"database\"} "];
        for (name, value) in figures.into_iter().zip([0.0, 1.0, 0.0]) {
            assert_eq!(metric(&process, name).await, value, "{name}");
        }
        assert!(metric(&process, "connector_database_failures_total ").await > failures);
        let line = process.logged("a commit takes longer than 600ms: the disk of the SQLite file is slow");
        assert!(line.contains("WARN") && line.contains("connector.db"), "{line}");
        disk.set_delay(Duration::ZERO);
        becomes(&process, "ready").await;
        process.logged("the disk of the SQLite file is fast enough again");
    }
}

/// Asks as a gate does until the gate opens or its budget is spent: how long that took, and the longest wait for a refusal.
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

/// Gates come at any moment of a commit, so that each waits for the one under way and for its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_disk_that_is_known_to_be_slow_refusals_come_early_and_a_retry_opens_the_gate() {
    let (disk, folder) = (SlowDisk::new(), TempDir::new().unwrap());
    let process = start(&disk, &folder).await;
    disk.set_delay(Duration::from_millis(1600));
    becomes(&process, "degraded").await;
    let mut gates = JoinSet::new();
    for _ in 0..24 {
        gates.spawn(gate(process.api.clone()));
        tokio::time::sleep(Duration::from_millis(150)).await; // one gate after another
    }
    let outcomes = gates.join_all().await;
    let late = outcomes.iter().filter(|(opened, _)| opened.is_none()).count();
    assert!(late <= 2, "{late} of 24 gates stay shut: {outcomes:?}");
    let mut longest: Vec<Duration> = outcomes.iter().map(|(_, longest)| *longest).collect();
    longest.sort();
    assert!(longest[12] < Duration::from_secs(1), "half of the refusals come later: {longest:?}");
    disk.set_delay(Duration::ZERO);
    becomes(&process, "ready").await;
}

/// Room for a row that is overwritten is no room for a decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nearly_full_disk_does_not_come_and_go() {
    for room in [8, 40] {
        nearly_full(room * 1024).await;
    }
}

/// With room for so many bytes more.
async fn nearly_full(room: u64) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("connector.db").display());
    let process = Process::demo(&[("storage.url", &url), ("rate_limit.burst", "1000000")]).await;
    for _ in 0..20 {
        assert_eq!(verify(&process.api, &scan()).await, 200);
    }
    let log = std::fs::metadata(folder.path().join("connector.db-wal")).unwrap().len();
    process.limit_files(Some(log + room));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        verify(&process.api, &scan_with_key(new_id().as_bytes())).await;
    }
    assert_eq!(status(&process).await, "degraded");
    process.limit_files(None);
    becomes(&process, "ready").await;
    assert_eq!(verify(&process.api, &scan()).await, 200);
    process.signal("TERM");
    let log = process.ended().stderr;
    let told = log.lines().filter(|line| line.contains("\"message\":\"the database ")).count();
    assert!(told <= 4, "{told} lines say that it goes or comes");
}
