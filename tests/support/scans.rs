//! The bodies of scans.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const IDENTITY_KEYS: &str = "/v1/identity/identity-keys";

/// A scan that is accepted: new ids, a valid shopper, the entry of STORE-001.
pub(crate) fn scan() -> Value {
    scan_with_key(b"valid_shopper_key")
}

/// A scan of this key. The function encodes the key in Base64.
pub(crate) fn scan_with_key(key: &[u8]) -> Value {
    json!({
        "requestId": Uuid::new_v4(),
        "identityKey": BASE64_STANDARD.encode(key),
        "storeId": "STORE-001",
        "authEvent": { "id": Uuid::new_v4(), "timestamp": "2024-02-09T17:53:57Z", "location": "ENTRY" },
        "keyChannel": "OPTICAL",
    })
}
