//! The binary under load: in memory, with the log of production in a file, and a directory that is slow for the one key.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// How many scans it works on at once.
pub(crate) const PLACES: u32 = 64;
/// How long its directory takes for one.
pub(crate) const SLOW: Duration = Duration::from_millis(20);
/// The key that is slow to be found.
pub(crate) const KEY: &str = "slow_badge";
/// Where it is shown.
pub(crate) const STORE: &str = "STORE-001";

pub(crate) struct Connector {
    pub(crate) address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Connector {
    /// Starts it on a free port, and returns once it is ready.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let directory = json!({
            "stores": [{ "id": STORE }],
            "shoppers": [{ "id": "shopper", "type": "ASSOCIATE" }],
            "identityKeys": [{ "key": KEY, "shopper": "shopper" }],
            "faults": [{ "key": KEY, "fault": { "slow_ms": SLOW.as_millis() } }],
        });
        let (file, log) = (folder.path().join("directory.json"), folder.path().join("log"));
        std::fs::write(&file, directory.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_identity-connector"))
            .arg("demo")
            .env("CONNECTOR__SERVER__BIND", "127.0.0.1:0")
            .env("CONNECTOR__MANAGEMENT__BIND", "127.0.0.1:0")
            .env("CONNECTOR__SERVER__MAX_IN_FLIGHT", PLACES.to_string())
            // All that comes, comes from one address here.
            .env("CONNECTOR__RATE_LIMIT__REQUESTS_PER_SECOND", "1000000000")
            .env("CONNECTOR__RATE_LIMIT__BURST", "1000000000")
            .env("CONNECTOR__DIRECTORY__FILE", file)
            .env("CONNECTOR__LOG__FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let address = loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = lines.into_iter().find(|line| line["message"] == "ready") {
                break ready["api"].as_str().unwrap().parse().unwrap();
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("not ready: {text}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        Self { address, child, _folder: folder }
    }

    /// Its number among the processes.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it.
    pub(crate) fn stop(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
