//! Black-box tests of the identity backend. The service asks a small server that is slow, sends wrong or huge answers,
//! or is down. `tests/it/engines/look_ups.rs` tests that it handles keys and tokens like the other directories.

pub(crate) mod answers;
pub(crate) mod cache;
pub(crate) mod circuit;
pub(crate) mod failures;
pub(crate) mod idle;
pub(crate) mod limits;
pub(crate) mod lookup_requests;
pub(crate) mod random;
pub(crate) mod secrets;
pub(crate) mod tls;

use std::time::{Duration, Instant};

use crate::checks::metric;
use crate::support::backend::Backend;
use crate::support::{Answer, Server, scan_with_key, wait_until};
use identity_connector::testing::digest::{Fingerprint, HashKey};
use identity_connector::testing::directory::backend::{Credentials, Limits, Settings, parse_url};
use identity_connector::testing::directory::{Directory, IdentityBackend, ScanContext};
use identity_connector::testing::domain::ids::StoreId;
use serde_json::{Value, json};

/// The backend's answer for a shopper without special properties.
fn shopper() -> Value {
    json!({ "shopper": { "id": "v1", "type": "SHOPPER" } })
}

/// Sends a scan of this key with a new event id.
async fn verify(server: &Server, key: &str) -> Answer {
    server.verify(&scan_with_key(key.as_bytes())).await
}

async fn verify_timed(server: &Server, key: &str) -> (Answer, Duration) {
    let began = Instant::now();
    let answer = verify(server, key).await;
    (answer, began.elapsed())
}

/// The number of look-ups with this outcome.
async fn lookup_count(server: &Server, outcome: &str) -> u64 {
    metric(server, &format!("connector_identity_backend_questions_total{{outcome=\"{outcome}\"}}")).await
}

/// Makes the backend answer, and waits until the connector accepts its answers.
async fn wait_until_backend_is_used(server: &Server, backend: &Backend) {
    backend.set_reply(crate::support::backend::Reply::json(&shopper()));
    let mut number = 0;
    wait_until("the backend is asked again", async || {
        number += 1;
        verify(server, &format!("is it back {number}")).await.status == 200
    })
    .await;
}

/// An empty directory that uses the backend, with at most four look-ups at the same time. The rest of the service is
/// left out.
fn directory_with_backend(backend: &Backend, cache_for: Duration) -> Directory {
    let limits = Limits { timeout: Duration::from_millis(1200), cache_for, max_in_flight: 4 };
    let settings = Settings::new(parse_url(&backend.url()).unwrap(), &Credentials::default(), limits).unwrap();
    Directory::in_memory(HashKey::new(&[7; 32])).with_backend(IdentityBackend::new(settings))
}

/// A scan with a deadline of a minute.
fn context(number: u8) -> ScanContext {
    ScanContext {
        subject: Fingerprint::from_bytes([number; 32]).into(),
        store: StoreId::parse("S").unwrap(),
        channel: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(60),
    }
}
