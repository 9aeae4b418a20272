//! What is read again while the connector runs: by SIGHUP, and when a file changes. A bad file changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::checks::PATIENCE;
use crate::support::{IDENTITY_KEYS, Process, client, scan_with_key};

/// A connector with a configuration file and a directory file that tests write again.
struct Running {
    process: Process,
    folder: TempDir,
}

impl Running {
    async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("connector.toml");
        write(&config, &callers(&["first"]));
        let directory = folder.path().join("directory.json");
        write(&directory, &known("a"));
        let settings = [("directory.file", directory.to_str().unwrap()), ("storage.url", "memory:")];
        let process = Process::start(&format!("serve --config {}", config.display()), &settings).await;
        Self { process, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The status of a scan of that badge by a caller with that key.
    async fn status(&self, api_key: &str, badge: &str) -> u16 {
        let body = scan_with_key(badge.as_bytes());
        let request = client().post(format!("{}{IDENTITY_KEYS}", self.process.api)).header("X-Api-Key", api_key);
        request.body(body.to_string()).send().await.unwrap().status().as_u16()
    }

    async fn until(&self, what: &str, api_key: &str, badge: &str, status: u16) {
        let deadline = Instant::now() + PATIENCE;
        while self.status(api_key, badge).await != status {
            assert!(Instant::now() < deadline, "{what}: never a {status}");
            tokio::time::sleep(Duration::from_millis(20)).await; // a poll towards the deadline above
        }
    }

    /// Waits until the metrics have this: a reload is counted a moment after it takes effect.
    async fn shows(&self, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = client().get(format!("{}/metrics", self.process.management)).send().await.unwrap();
            let metrics = answer.text().await.unwrap();
            if metrics.contains(what) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}\n{metrics}");
        }
    }

    /// Stops it, and returns all that it logged.
    fn log(self) -> String {
        self.process.signal("TERM");
        self.process.ended().stderr
    }
}

fn write(path: &Path, text: &str) {
    // As whoever knows how to does it: the file is there whole, or not yet.
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

fn callers(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{}\"", hex::encode(Sha256::digest(key)))).collect();
    format!("[server.callers.amazon]\napi_key_sha256 = [{}]\n", keys.join(", "))
}

/// A directory in which that badge is registered.
fn known(badge: &str) -> String {
    serde_json::json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v", "type": "ASSOCIATE" }],
        "identityKeys": [{ "key": badge, "shopper": "v" }],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_read_again_without_being_asked_for() {
    let running = Running::start().await;
    assert_eq!((running.status("first", "a").await, running.status("second", "a").await), (200, 401));
    write(&running.file("connector.toml"), &callers(&["first", "second"]));
    running.until("the new key", "second", "a", 200).await;
    assert_eq!(running.status("first", "a").await, 200, "and the old one still");
    write(&running.file("connector.toml"), &callers(&["second"]));
    running.until("the old key", "first", "a", 401).await;

    assert_eq!(running.status("second", "b").await, 401);
    write(&running.file("directory.json"), &known("b"));
    running.until("the new badge", "second", "b", 200).await;
    let log = running.log();
    assert!(log.contains("callers reloaded") && log.contains("directory file imported"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_files_keep_what_was_known_and_good_ones_count_again() {
    let running = Running::start().await;
    for bad in ["[server.callers.amazon]\napi_key_sha256 = \"no digest\"\n", "[[[", "", "[log]\nlevel = \"info\"\n"] {
        write(&running.file("connector.toml"), bad);
        write(&running.file("directory.json"), "{");
        running.process.signal("HUP");
        running.process.logged("\"setting\":\"server.callers\"");
        running.process.logged("\"setting\":\"directory.file\"");
        assert_eq!((running.status("first", "a").await, running.status("", "a").await), (200, 401), "{bad:?}");
        for setting in ["server.callers", "directory.file"] {
            running.shows(&format!("connector_reload_failed{{setting=\"{setting}\"}} 1\n")).await;
        }
    }
    fs::remove_file(running.file("connector.toml")).unwrap();
    running.process.signal("HUP");
    running.process.logged("No such file");
    assert_eq!(running.status("first", "a").await, 200);
    write(&running.file("connector.toml"), &callers(&["third"]));
    write(&running.file("directory.json"), &known("c"));
    running.process.signal("HUP");
    running.until("what is right again", "third", "c", 200).await;
    running.shows("connector_reload_failed{setting=\"directory.file\"} 0\n").await;
    running.shows("connector_caller_requests_total{caller=\"amazon\"} ").await;
    assert!(!running.log().contains("no digest"), "what stands there may be a key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_new_start_is_named() {
    let running = Running::start().await;
    let text = format!("{}[rate_limit]\nburst = 7\n[session]\nmax_age = \"3h\"\n", callers(&["first"]));
    write(&running.file("connector.toml"), &text);
    running.process.signal("HUP");
    running.process.logged("\"settings\":\"rate_limit.burst, session.max_age\"");
}
