//! The body of the gate's call, from bytes to answer. No input may cause a 5xx, every answer has the documented form,
//! and a repeated request gets the same answer.
#![no_main]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use identity_connector_fuzz::{Answer, with_connector};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// The messages of a 400, besides [`MISSING`].
const INVALID: [&str; 12] = [
    "Invalid request body",
    "Invalid requestId format",
    "Invalid identityKey encoding",
    "identityKey exceeds maximum length of 1000 characters",
    "Invalid storeId",
    "storeId exceeds maximum length of 255 characters",
    "Invalid authEvent format",
    "Invalid authEvent.id format",
    "Invalid authEvent.timestamp format",
    "Invalid authEvent.location value",
    "Invalid keyChannel value",
    "authEvent.id already used with different parameters",
];
/// The members that a 400 may report as missing.
const MISSING: [&str; 7] =
    ["requestId", "identityKey", "storeId", "authEvent", "authEvent.id", "authEvent.timestamp", "authEvent.location"];
/// The messages of a 401.
const DENIED: [&str; 6] = [
    "Invalid identity key",
    "Identity key not found",
    "Identity key expired",
    "Shopper account flagged",
    "Payment method expired",
    "Cash shoppers are not supported at this store",
];

fuzz_target!(|data: &[u8]| {
    let body = match data.split_first() {
        // A valid body with this key: mutations of a whole body rarely keep the Base64 of a key valid.
        Some((b'K', key)) => scan(key).into_bytes(),
        _ => data.to_vec(),
    };
    with_connector(async |connector| {
        let first = connector.verify(&body).await;
        check(&first);
        let again = connector.verify(&body).await;
        assert_eq!((first.status, first.text()), (again.status, again.text()), "the same request");
        // Time passes, so that old events may expire.
        connector.clock.advance(Duration::from_secs(1));
    });
});

/// A request that is valid except perhaps for its key.
fn scan(key: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let event = format!("00000000-0000-0000-0000-{:012x}", hasher.finish() >> 16);
    let event = json!({ "id": event, "timestamp": "2024-02-09T17:54:00Z", "location": "ENTRY" });
    let key = BASE64_STANDARD.encode(key);
    json!({ "requestId": "11111111-2222-3333-4444-555555555555", "identityKey": key, "storeId": "STORE-001", "authEvent": event })
        .to_string()
}

fn check(answer: &Answer) {
    match answer.status {
        200 => {
            let json = answer.json();
            let members = json.as_object().expect("the answer is a JSON object");
            assert!(members.keys().all(|name| name == "visitorDetails" || name == "shopperDeviceId"), "{json}");
            let visitor = json["visitorDetails"].as_object().expect("a 200 has visitorDetails");
            assert_eq!(visitor.keys().collect::<Vec<_>>(), ["id", "type"], "{json}");
            assert!(visitor["id"].is_string(), "{json}");
            let kind = visitor["type"].as_str().expect("a visitor has a type");
            assert!(["SHOPPER", "ASSOCIATE", "CASH_SHOPPER"].contains(&kind), "{json}");
        }
        400 => {
            let message = answer.message();
            let missing = message.strip_prefix("Missing required field: ").is_some_and(|name| MISSING.contains(&name));
            assert!(missing || INVALID.contains(&message.as_str()), "{message}");
        }
        401 => assert!(DENIED.contains(&answer.message().as_str()), "{}", answer.text()),
        status => panic!("{status} {}", answer.text()),
    }
}
