//! The connector under test: in memory, with a directory that is slow for one key.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::connector::Connector;

/// `server.max_in_flight`.
pub(crate) const MAX_IN_FLIGHT: u32 = 64;
/// The delay of each look-up.
pub(crate) const SLOW: Duration = Duration::from_millis(20);
/// The key with the delay.
pub(crate) const KEY: &str = "slow_badge";
/// The store of all scans.
pub(crate) const STORE: &str = "STORE-001";

/// Starts the connector, with its files in this folder.
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
        .env("CONNECTOR__SERVER__MAX_IN_FLIGHT", MAX_IN_FLIGHT.to_string())
        .env("CONNECTOR__DIRECTORY__FILE", file);
    Connector::start(command, folder.path())
}
