//! The gate's call. Its body is read by hand, so that every mistake has the words that Amazon is told: what is declared here only describes
//! it, and a test holds both together.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::path::HttpMethod;

use super::super::IDENTITY_KEYS;
use super::super::answer::Authorized;
use super::super::error::ApiError;
use super::super::wire::Invalid;
use super::call::{Call, schema_of};
use super::{API_KEY, CLIENT_CERTIFICATE};
use crate::callers::UnknownCaller;
use crate::domain::decision::Denial;

pub(super) const TAG: &str = "gate";

/// A scan. Members that are not named here are ignored, whatever is in them.
#[derive(ToSchema)]
#[schema(as = Scan)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "a scan is read by hand: this describes it")]
pub(super) struct ScanBody {
    /// A UUID in any version, new on every retry.
    #[schema(format = "uuid", pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    request_id: String,
    /// What the reader saw, in Base64: the standard alphabet, padded in full or not at all.
    #[schema(min_length = 1, max_length = 1000, content_encoding = "base64")]
    identity_key: String,
    #[schema(min_length = 1, max_length = 255)]
    store_id: String,
    #[schema(inline)]
    auth_event: AuthEventBody,
    /// How it was read, if that is known.
    #[schema(inline)]
    key_channel: Option<ChannelWord>,
}

/// What happened at the gate.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct AuthEventBody {
    /// A UUID, the same on every retry: the same event with the same key, store and location gets the same answer, always.
    #[schema(format = "uuid", pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    id: String,
    /// In UTC.
    #[schema(format = DateTime, pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|\+00:00)$")]
    timestamp: String,
    #[schema(inline)]
    location: LocationWord,
}

#[derive(ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "as above")]
enum ChannelWord {
    Optical,
    Radio,
}

#[derive(ToSchema)]
#[serde(rename_all = "UPPERCASE")]
#[expect(dead_code, reason = "as above")]
enum LocationWord {
    Entry,
    Exit,
}

pub(super) fn call() -> Call {
    let example = json!({
        "requestId": "11111111-2222-3333-4444-555555555555",
        "identityKey": "dmFsaWRfc2hvcHBlcl9rZXk=",
        "storeId": "STORE-001",
        "authEvent": { "id": "a1b2c3d4-e5f6-7890-abcd-ef1234567890", "timestamp": "2024-02-09T17:53:57Z", "location": "ENTRY" },
        "keyChannel": "OPTICAL"
    });
    Call::new(HttpMethod::Post, IDENTITY_KEYS, "verifyIdentityKey", "Decides whether a gate opens")
        .described(
            "Without credentials only where `server.callers` names nobody. \
             To a POST on this path, whatever its body: 200, 400, 401, 429 or 500. The body is JSON whatever `Content-Type` says, an object, \
             not empty, names each member that is described here at most once, has at most 64 KiB and is complete 1 s after the head; \
             the answer comes within 1.5 s. The first mistake in the order of the messages is told. 200 and 401 are recorded, and \
             answered again to the same event; 400, 429 and 500 are not. The limit is per caller, `rate_limit.burst` at once and \
             `rate_limit.requests_per_second` in the long run, charged before the body is read.",
        )
        .tagged(TAG)
        .needs(&[])
        .needs(&[API_KEY])
        .needs(&[CLIENT_CERTIFICATE])
        .needs(&[API_KEY, CLIENT_CERTIFICATE])
        .takes(schema_of::<ScanBody>(), example)
        .answers("The gate opens for this visitor.", schema_of::<Authorized<'_>>())
        .refuses(Invalid::ALL.map(ApiError::Invalid))
        .refuses([ApiError::EventReused])
        .refuses([ApiError::UnknownCaller(UnknownCaller::NoCredentials, IpAddr::V4(Ipv4Addr::UNSPECIFIED).into())])
        .denies(401, Denial::ALL.map(Denial::message))
        .refuses([ApiError::TooManyRequests { retry_after: 1, reason: "" }, super::fault()])
}
