//! Describes the gate's call. The types here only generate the OpenAPI document: `request` parses the real body by
//! hand, so that every invalid field gets the message that Amazon's test cases expect. A test checks that both accept
//! the same bodies.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::StatusCode;
use utoipa::ToSchema;

use crate::callers::UnknownCaller;
use crate::directory::Word;
use crate::domain::decision::Denial;
use crate::domain::scan::{KeyChannel, Location};
use crate::gate_api::answer::GateError;
use crate::gate_api::request::Invalid;
use crate::http::error;
use crate::http::openapi::{Refusals, fault, refusals};

pub(crate) const DESCRIPTION: &str = "\
    Credentials are required if `server.callers` has any caller.\n\n\
    For every body, the status is 200, 400, 401, 429 or 500. The answer comes within 1.5 s after the head of the request.\n\n\
    The body must be a JSON object that is not empty and has each member described here at most once. `Content-Type` is ignored. The body must \
    not exceed 64 KiB and must be complete 1 s after the head. If several rules fail, the 400 has the message of the first one. The examples \
    are in the order of the rules.\n\n\
    200 and 401 are recorded: the same event gets the recorded answer again. 400, 429 and 500 are not recorded.\n\n\
    Each caller may send `rate_limit.requests_per_second` requests a second, with bursts of `rate_limit.burst`. A request is counted before \
    its body is read.";

refusals! {
    Refused = Refusals::default()
        .exactly(Invalid::ALL.map(GateError::Invalid))
        .exactly([
            GateError::EventReused,
            GateError::UnknownCaller(UnknownCaller::NoCredentials, IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()),
        ])
        .exactly(Denial::ALL.map(|denial| error::Refused::new(StatusCode::UNAUTHORIZED, denial.message(), "")))
        .exactly([error::Refused::too_many_requests(1, ""), fault()]);
}

// utoipa cannot derive a schema with `Word<_>` itself.
type KeyChannelWord = Word<KeyChannel>;
type LocationWord = Word<Location>;

/// A scan. Unknown members are ignored.
#[derive(ToSchema)]
#[schema(as = Scan)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "a scan is parsed by hand: this only describes it")]
pub(crate) struct ScanBody {
    /// A UUID of any version, new on every retry.
    #[schema(format = "uuid", pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    request_id: String,
    /// The scanned key in Base64: the standard alphabet, with full padding or none.
    #[schema(min_length = 1, max_length = 1000, content_encoding = "base64")]
    identity_key: String,
    #[schema(min_length = 1, max_length = 255)]
    store_id: String,
    #[schema(inline)]
    auth_event: AuthEventBody,
    /// How the key was read, if that is known.
    #[schema(inline)]
    key_channel: Option<KeyChannelWord>,
}

/// The event at the gate.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct AuthEventBody {
    /// A UUID, the same on every retry. While the decision is kept (`ledger.retention`), the same id, key, store and location get the recorded answer.
    #[schema(format = "uuid", pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    id: String,
    /// In UTC.
    #[schema(format = DateTime, pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|\+00:00)$")]
    timestamp: String,
    #[schema(inline)]
    location: LocationWord,
}
