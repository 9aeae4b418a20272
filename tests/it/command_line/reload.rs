//! Reload of callers and of the directory file while the connector runs, on SIGHUP and when a file changes. An invalid
//! file changes nothing.

use crate::trials::{apply, test};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::{IDENTITY_KEYS, Process, client, scan_with_key, wait_until};

/// A connector with a configuration file and a directory file, which the tests change.
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
        write(&directory, &directory_with("a"));
        let settings = [("directory.file", directory.to_str().unwrap()), ("storage.url", "memory:")];
        let process = Process::start(&format!("serve --config {}", config.display()), &settings).await;
        Self { process, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The status of a scan of this badge by a caller with this API key.
    async fn status(&self, api_key: &str, badge: &str) -> u16 {
        let body = scan_with_key(badge.as_bytes());
        let request = client().post(format!("{}{IDENTITY_KEYS}", self.process.api)).header("X-Api-Key", api_key);
        request.body(body.to_string()).send().await.unwrap().status().as_u16()
    }

    /// Retries such a scan until its status is the expected one.
    async fn wait_until_status(&self, what: &str, api_key: &str, badge: &str, status: u16) {
        wait_until(what, async || self.status(api_key, badge).await == status).await;
    }

    /// Waits until the metrics contain this text, because a reload is counted a moment after it takes effect.
    async fn wait_for_metric(&self, what: &str) {
        wait_until(what, async || self.process.get("/metrics").await.contains(what)).await;
    }

    /// Stops the connector and returns its log.
    fn log(self) -> String {
        self.process.stop().stderr
    }
}

fn write(path: &Path, text: &str) {
    // A rename replaces the file atomically, so that the connector never reads half of it.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn callers(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{}\"", hex::encode(Sha256::digest(key)))).collect();
    format!("[server.callers.amazon]\napi_key_sha256 = [{}]\n", keys.join(", "))
}

/// A directory in which this badge is registered.
fn directory_with(badge: &str) -> String {
    serde_json::json!({
        "stores": [{ "id": "STORE-001" }],
        "shoppers": [{ "id": "v", "type": "ASSOCIATE" }],
        "identityKeys": [{ "key": badge, "shopper": "v" }],
    })
    .to_string()
}

#[apply(test)]
async fn a_changed_file_is_reloaded_without_a_signal() {
    let running = Running::start().await;
    assert_eq!((running.status("first", "a").await, running.status("second", "a").await), (200, 401));
    write(&running.file("connector.toml"), &callers(&["first", "second"]));
    running.wait_until_status("the new key", "second", "a", 200).await;
    assert_eq!(running.status("first", "a").await, 200, "the old key is still valid");
    write(&running.file("connector.toml"), &callers(&["second"]));
    running.wait_until_status("the old key", "first", "a", 401).await;

    assert_eq!(running.status("second", "b").await, 401);
    write(&running.file("directory.json"), &directory_with("b"));
    running.wait_until_status("the new badge", "second", "b", 200).await;
    let log = running.log();
    assert!(log.contains("callers reloaded") && log.contains("directory file imported"), "{log}");
}

#[apply(test)]
async fn invalid_files_change_nothing_and_valid_ones_are_loaded() {
    let running = Running::start().await;
    for bad in ["[server.callers.amazon]\napi_key_sha256 = \"no digest\"\n", "[[[", "", "[log]\nlevel = \"info\"\n"] {
        write(&running.file("connector.toml"), bad);
        write(&running.file("directory.json"), "{");
        running.process.signal("HUP");
        running.process.wait_for_log("\"setting\":\"server.callers\"");
        running.process.wait_for_log("\"setting\":\"directory.file\"");
        assert_eq!((running.status("first", "a").await, running.status("", "a").await), (200, 401), "{bad:?}");
        for setting in ["server.callers", "directory.file"] {
            running.wait_for_metric(&format!("connector_reload_failed{{setting=\"{setting}\"}} 1\n")).await;
        }
    }
    fs::remove_file(running.file("connector.toml")).unwrap();
    running.process.signal("HUP");
    running.process.wait_for_log("No such file");
    assert_eq!(running.status("first", "a").await, 200);
    write(&running.file("connector.toml"), &callers(&["third"]));
    write(&running.file("directory.json"), &directory_with("c"));
    running.process.signal("HUP");
    running.wait_until_status("the valid files", "third", "c", 200).await;
    running.wait_for_metric("connector_reload_failed{setting=\"directory.file\"} 0\n").await;
    running.wait_for_metric("connector_caller_requests_total{caller=\"amazon\"} ").await;
    assert!(!running.log().contains("no digest"), "the invalid value may be a key, so it is not logged");
}

#[apply(test)]
async fn changed_settings_that_need_a_restart_are_logged() {
    let running = Running::start().await;
    let text = format!("{}[rate_limit]\nburst = 7\n[session]\nmax_age = \"3h\"\n", callers(&["first"]));
    write(&running.file("connector.toml"), &text);
    running.process.signal("HUP");
    running.process.wait_for_log("\"settings\":\"rate_limit.burst, session.max_age\"");
}
