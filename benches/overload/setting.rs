//! What is overloaded: a connector in memory whose directory is slow for the one key.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::connector::Connector;

/// How many scans it works on at once.
pub(crate) const PLACES: u32 = 64;
/// How long its directory takes for one.
pub(crate) const SLOW: Duration = Duration::from_millis(20);
/// The key that is slow to be found.
pub(crate) const KEY: &str = "slow_badge";
/// Where it is shown.
pub(crate) const STORE: &str = "STORE-001";

/// Starts it, with its files in this folder.
pub(crate) fn start(folder: &TempDir) -> Connector {
    let directory = json!({
        "stores": [{ "id": STORE }],
        "shoppers": [{ "id": "shopper", "type": "ASSOCIATE" }],
        "identityKeys": [{ "key": KEY, "shopper": "shopper" }],
        "faults": [{ "key": KEY, "fault": { "slow_ms": SLOW.as_millis() } }],
    });
    let file = folder.path().join("directory.json");
    std::fs::write(&file, directory.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_identity-connector"));
    command
        .arg("demo")
        .env("CONNECTOR__SERVER__MAX_IN_FLIGHT", PLACES.to_string())
        .env("CONNECTOR__DIRECTORY__FILE", file);
    Connector::start(command, folder.path())
}
