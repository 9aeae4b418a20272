//! A connector in memory and its scans. Shared with `instructions`.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use identity_connector::testing::digest::HashKey;
use identity_connector::testing::directory::{Directory, file};
use identity_connector::testing::domain::scan::Scan;
use identity_connector::testing::domain::scan_key_code::{ScanKeyFormat, TimestampUnit};
use identity_connector::testing::gate_api::read_scan;
use identity_connector::testing::ledger::{Ledger, Limits, MemoryLedger};
use identity_connector::testing::observe::metrics::Metrics;
use identity_connector::testing::verify::Connector;
use serde_json::json;

pub(crate) const STORE: &str = "STORE-001";
/// The shopper of the code's token.
pub(crate) const SHOPPER: &str = "shopper-uuid-001";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// A Scan Key Code with that token, made at the time [`AT`].
pub(crate) const CODE: &str = "JWOACME0123456789abcdef0123456789abcdef1795867200";
/// The time of all events.
pub(crate) const AT: &str = "2026-11-28T12:00:00Z";
/// The capacity of a ledger: small enough for any machine.
pub(crate) const CAPACITY: u64 = 100_000;

pub(crate) fn now() -> DateTime<Utc> {
    AT.parse().unwrap()
}

pub(crate) fn hash_key() -> HashKey {
    HashKey::new(&[7; 32])
}

pub(crate) fn format() -> ScanKeyFormat {
    ScanKeyFormat::new("ACME", TimestampUnit::Seconds, None).unwrap()
}

/// The default limits, except for the capacity.
pub(crate) fn limits() -> Limits {
    let capacity = usize::try_from(CAPACITY).unwrap();
    Limits { retention: TimeDelta::days(7), capacity, cache: capacity, session_max_age: TimeDelta::hours(24) }
}

/// A directory with one store and one shopper.
pub(crate) async fn directory() -> Arc<Directory> {
    let content = json!({
        "stores": [{ "id": STORE }],
        "shoppers": [{ "id": SHOPPER, "type": "SHOPPER" }],
        "recognitionTokens": [{ "token": TOKEN, "shopper": SHOPPER }],
    });
    let loaded = file::parse(&content.to_string(), "the fixture", &hash_key(), false).unwrap();
    let directory = Directory::in_memory(hash_key());
    directory.apply(loaded.changes, now()).await.unwrap();
    Arc::new(directory)
}

/// A connector with an empty ledger.
pub(crate) fn connector(directory: &Arc<Directory>, metrics: Metrics) -> Connector {
    Connector {
        directory: Arc::clone(directory),
        ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits()))),
        hash_key: hash_key(),
        scan_key: Some(format()),
        single_use: false,
        include_payment_source: false,
        metrics,
    }
}

/// The body of a scan, as Amazon sends it, with the event of this number.
pub(crate) fn body(event: u64, key: &str, channel: &str) -> String {
    json!({
        "requestId": "a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        "identityKey": BASE64_STANDARD.encode(key),
        "storeId": STORE,
        "authEvent": { "id": event_id(event), "timestamp": AT, "location": "ENTRY" },
        "keyChannel": channel,
    })
    .to_string()
}

/// An event id that looks random but is the same in each run.
fn event_id(number: u64) -> String {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    uuid::Uuid::from_u64_pair(spread, number).to_string()
}

/// The scan with the event of this number.
pub(crate) fn scan(event: u64) -> Scan {
    read_scan(body(event, CODE, "OPTICAL").as_bytes()).unwrap()
}
