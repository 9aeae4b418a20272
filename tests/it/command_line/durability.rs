//! A connector on a SQLite file loses no data by a restart or by a crash at any moment.

use crate::trials::{apply, test};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{Ended, IDENTITY_KEYS, Process, client, scan, scan_with_key, sessions, wait_until};

/// Number of crashes in the crash test. The variable `CONNECTOR_TEST_KILLS` overrides it.
const KILLS: usize = 3;
/// Number of concurrent callers.
const CALLERS: usize = 8;

/// A folder for a SQLite database.
struct DatabaseFolder(TempDir);

impl DatabaseFolder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Starts `demo`, for its test data, on a SQLite file.
    async fn start(&self) -> Process {
        Process::demo(&[("storage.url", &self.url()), ("rate_limit.burst", "1000000")]).await
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.file("new/connector.db"))
    }
}

async fn verify(api: &str, body: &Value) -> Option<(u16, Vec<u8>)> {
    let answer = client().post(format!("{api}{IDENTITY_KEYS}")).body(body.to_string()).send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.bytes().await.ok()?.to_vec()))
}

/// Number of sessions of each auth event.
async fn sessions_by_event(process: &Process) -> HashMap<String, usize> {
    let mut by_event = HashMap::new();
    for session in sessions(&process.management).await {
        let event = session.pointer("/entry/authEventId").unwrap().to_string();
        *by_event.entry(event).or_insert(0) += 1;
    }
    by_event
}

#[apply(test)]
async fn a_restart_keeps_answers_and_sessions() {
    let folder = DatabaseFolder::new();
    let (accepted, denied) = (scan(), scan_with_key(b"flagged_shopper_key"));
    let process = folder.start().await;
    let before = [verify(&process.api, &accepted).await.unwrap(), verify(&process.api, &denied).await.unwrap()];
    let listed = sessions(&process.management).await;
    let ended = process.stop();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("\"stopped\""), "{}", ended.stderr);
    assert!(
        !std::fs::exists(folder.file("new/connector.db-wal")).unwrap(),
        "without a write-ahead log, the file is complete and can be copied"
    );

    let process = folder.start().await;
    let after = [verify(&process.api, &accepted).await.unwrap(), verify(&process.api, &denied).await.unwrap()];
    assert_eq!(before, after);
    assert_eq!((listed.len(), &sessions(&process.management).await), (1, &listed));
    assert_eq!(process.metric("connector_ledger_records").await, 2.0);
}

/// Callers send scans and retries while the process is killed and started again. Each answer that a caller received
/// must be the answer to later retries.
#[apply(test)]
async fn a_crash_loses_no_answer_and_opens_no_session_twice() {
    let kills = std::env::var("CONNECTOR_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let folder = DatabaseFolder::new();
    let answered = Arc::new(Mutex::new(HashMap::new()));
    for kill in 1..=kills {
        let process = folder.start().await;
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (api, answered) = (process.api.clone(), Arc::clone(&answered));
            callers.spawn(async move {
                loop {
                    // Every second caller sends scans that are denied. Each scan is sent twice, so that some retries
                    // arrive while the record of the scan is being written.
                    let body = if caller % 2 == 0 { scan() } else { scan_with_key(b"unknown") };
                    let (first, second) = tokio::join!(verify(&api, &body), verify(&api, &body));
                    for answer in [first, second] {
                        let Some(answer) = answer else { return };
                        answered.lock().unwrap().insert(body["authEvent"]["id"].to_string(), (body.clone(), answer));
                    }
                }
            });
        }
        wait_until("scans are answered", async || answered.lock().unwrap().len() > 10 * kill).await;
        let moment = rand::rng().random_range(50..400);
        tokio::time::sleep(Duration::from_millis(moment)).await; // a random moment for the crash
        process.kill();
        callers.join_all().await;
    }
    let process = folder.start().await;
    let answered = std::mem::take(&mut *answered.lock().unwrap());
    // Count before any retry: a scan whose record was lost would get the same decision again, and a new record.
    let records = process.metric("connector_ledger_records").await;
    let by_event = sessions_by_event(&process).await;
    assert!(
        records >= f64::from(u32::try_from(answered.len()).unwrap()),
        "{records} records for {} answers",
        answered.len()
    );
    for (event, (_, (status, _))) in &answered {
        assert!(*status != 200 || by_event.contains_key(event), "{event} was accepted, and its session was lost");
    }
    for (body, answer) in answered.values() {
        assert_eq!(verify(&process.api, body).await.as_ref(), Some(answer), "{body}");
    }
    assert!(sessions_by_event(&process).await.values().all(|count| *count == 1), "an event has more than one session");
}

#[apply(test)]
async fn only_the_owner_can_read_the_hash_key_and_no_other_key_is_accepted() {
    let folder = DatabaseFolder::new();
    let process = folder.start().await;
    process.stop();
    let key = folder.file("new/connector.db.key");
    for file in [&key, &folder.file("new/connector.db")] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }

    let url = folder.url();
    let start_error = |key: &str| {
        let settings = [("storage.url", url.as_str()), ("security.hash_key", key)];
        let ended = Ended::run(&["demo"], &settings);
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        assert!(key.is_empty() || !ended.stderr.contains(key), "{}", ended.stderr);
        ended.stderr
    };
    assert!(start_error("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").contains("made with another hash key"));
    assert!(start_error("c2hvcnQ=").contains("security.hash_key: must be 32 bytes in Base64"));
    std::fs::write(&key, "nonsense").unwrap();
    assert!(start_error("").contains("connector.db.key: must be 32 bytes"));
    std::fs::remove_file(&key).unwrap();
    assert!(start_error("").contains("connector.db.key"), "no new key is generated for an existing database");
}

/// On a full disk no scan is accepted. With free space again, the connector recovers without a restart.
#[apply(test)]
async fn a_full_disk_causes_500_until_space_is_free_again() {
    let folder = DatabaseFolder::new();
    let process = folder.start().await;
    let recorded = scan();
    assert_eq!(verify(&process.api, &recorded).await.unwrap().0, 200);
    process.limit_files(Some(0));
    let refused: Vec<_> = (0..8).map(|number: u8| scan_with_key(&[b'k', b'0' + number])).collect();
    for body in &refused {
        assert_eq!(verify(&process.api, body).await.unwrap().0, 500);
    }
    assert_eq!(process.readiness().await, "degraded");
    assert_eq!(verify(&process.api, &recorded).await.unwrap().0, 200);

    process.limit_files(None);
    process.wait_for_readiness("ready").await;
    for body in &refused {
        assert_eq!(verify(&process.api, body).await.unwrap().0, 401);
    }
    assert_eq!(process.metric("connector_ledger_records").await, 9.0);
}
