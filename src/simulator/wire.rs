//! What the gate sends and receives: the request of a scan, and what an answer means.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Timelike as _, Utc};
use reqwest::header::HeaderValue;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::simulator::{Cause, GateDecision, Outcome};

/// A scan at a gate. It is the same for every attempt.
#[derive(Clone)]
pub struct GateScan {
    /// The identity key in Base64.
    pub identity_key: String,
    /// The store's id.
    pub store_id: String,
    /// The id of the scan, `authEvent.id`. All attempts have the same.
    pub event_id: Uuid,
    /// The time of the scan; sent in whole milliseconds.
    pub timestamp: DateTime<Utc>,
    /// `ENTRY` or `EXIT`; other values are sent unchanged.
    pub location: String,
    /// `OPTICAL` or `RADIO`; absent from the request if `None`.
    pub channel: Option<String>,
}

impl fmt::Debug for GateScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GateScan")
            .field("identity_key", &"[hidden]")
            .field("store_id", &self.store_id)
            .field("event_id", &self.event_id)
            .field("timestamp", &self.timestamp)
            .field("location", &self.location)
            .field("channel", &self.channel)
            .finish()
    }
}

/// The request body. A `keyChannel` of `None` is absent, not null.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireRequest<'a> {
    request_id: Uuid,
    identity_key: &'a str,
    store_id: &'a str,
    auth_event: WireEvent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_channel: Option<&'a str>,
}

#[derive(Serialize)]
struct WireEvent<'a> {
    id: Uuid,
    timestamp: String,
    location: &'a str,
}

impl<'a> WireRequest<'a> {
    pub(crate) fn new(scan: &'a GateScan, request_id: Uuid) -> Self {
        let precision = match scan.timestamp.nanosecond() {
            0..1_000_000 => SecondsFormat::Secs,
            _ => SecondsFormat::Millis,
        };
        Self {
            request_id,
            identity_key: &scan.identity_key,
            store_id: &scan.store_id,
            auth_event: WireEvent {
                id: scan.event_id,
                timestamp: scan.timestamp.to_rfc3339_opts(precision, true),
                location: &scan.location,
            },
            key_channel: scan.channel.as_deref(),
        }
    }
}

/// The parts of an answer that the gate reads.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
    /// Whether `body` is the complete body.
    pub(crate) is_complete: bool,
}

impl Answer {
    /// The gate's decision on this answer; `None` if the gate must retry.
    pub(crate) fn verdict(&self) -> Option<(GateDecision, Cause)> {
        match self.status {
            200 if self.is_complete && has_visitor(&self.body) => Some((GateDecision::Open, Cause::Authorized)),
            400 | 401 => Some((GateDecision::Closed, Cause::Refused)),
            _ => None,
        }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome::Answered { status: self.status, body: String::from_utf8_lossy(&self.body).into_owned() }
    }
}

/// Whether a body has valid `visitorDetails`: an object with an id and a known type.
fn has_visitor(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = |name| body.get("visitorDetails")?.get(name)?.as_str();
    detail("id").is_some_and(|id| !id.is_empty())
        && matches!(detail("type"), Some("SHOPPER" | "ASSOCIATE" | "CASH_SHOPPER"))
}

/// The wait that `Retry-After` asks for: whole seconds, or until a date.
pub(crate) fn retry_after(value: &HeaderValue, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit is longer than every budget.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now.into()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISITOR: &str = r#"{"visitorDetails":{"id":"v","type":"SHOPPER"},"more":1}"#;

    fn verdict(status: u16, body: &str, is_complete: bool) -> Option<(GateDecision, Cause)> {
        let body = body.as_bytes().to_vec();
        Answer { status, retry_after: None, body, is_complete }.verdict()
    }

    fn wait(value: &'static str) -> Option<Duration> {
        let now = "2030-01-31T12:00:00Z".parse().expect("a time");
        retry_after(&HeaderValue::from_static(value), now)
    }

    #[test]
    fn a_200_opens_only_with_valid_visitor_details() {
        assert_eq!(verdict(200, VISITOR, true), Some((GateDecision::Open, Cause::Authorized)));
        for body in [
            "",
            "OK",
            "{}",
            r#"[{"visitorDetails":{"id":"v","type":"SHOPPER"}}]"#,
            r#"{"visitorDetails":null}"#,
            r#"{"visitorDetails":["v","SHOPPER"]}"#,
            r#"{"visitorDetails":{"id":"","type":"SHOPPER"}}"#,
            r#"{"visitorDetails":{"id":7,"type":"SHOPPER"}}"#,
            r#"{"visitorDetails":{"id":"v","type":"GUEST"}}"#,
            r#"{"visitorDetails":{"id":"v"}}"#,
        ] {
            assert_eq!(verdict(200, body, true), None, "{body}");
        }
        assert_eq!(verdict(200, VISITOR, false), None, "not complete");
    }

    #[test]
    fn only_400_and_401_refuse_with_any_body() {
        for status in [400, 401] {
            let refused = Some((GateDecision::Closed, Cause::Refused));
            assert_eq!(verdict(status, VISITOR, false), refused);
        }
        for status in [201, 204, 302, 403, 404, 429, 500, 503] {
            assert_eq!(verdict(status, VISITOR, true), None, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_whole_seconds_and_as_a_date() {
        assert_eq!(wait("0"), Some(Duration::ZERO));
        assert_eq!(wait("120"), Some(Duration::from_mins(2)));
        assert_eq!(wait("99999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        // Each date format of RFC 9110.
        for date in ["Thu, 31 Jan 2030 12:02:00 GMT", "Thursday, 31-Jan-30 12:02:00 GMT", "Thu Jan 31 12:02:00 2030"] {
            assert_eq!(wait(date), Some(Duration::from_mins(2)), "{date}");
        }
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO), "a time in the past");
        for other in ["", "-1", "+1", "1.5", "soon", "Thu, 31 Jan 2030 12:02:00 CET", "2030-01-31T12:02:00Z"] {
            assert_eq!(wait(other), None, "{other}");
        }
    }

    #[test]
    fn the_request_is_written_as_amazon_writes_it() {
        let mut scan = GateScan {
            identity_key: "a2V5".to_owned(),
            store_id: "S".to_owned(),
            event_id: Uuid::nil(),
            timestamp: DateTime::from_timestamp(1_700_000_000, 0).unwrap(),
            location: "ENTRY".to_owned(),
            channel: None,
        };
        let request = |scan: &GateScan| serde_json::to_string(&WireRequest::new(scan, Uuid::nil())).unwrap();
        assert_eq!(
            request(&scan),
            concat!(
                r#"{"requestId":"00000000-0000-0000-0000-000000000000","identityKey":"a2V5","storeId":"S","#,
                r#""authEvent":{"id":"00000000-0000-0000-0000-000000000000","#,
                r#""timestamp":"2023-11-14T22:13:20Z","location":"ENTRY"}}"#
            )
        );
        scan.channel = Some("RADIO".to_owned());
        scan.timestamp = DateTime::from_timestamp(1_700_000_000, 70_999_999).unwrap();
        let json = request(&scan);
        assert!(json.ends_with(r#","keyChannel":"RADIO"}"#), "{json}");
        assert!(json.contains(r#""2023-11-14T22:13:20.070Z""#), "{json}");
        assert!(!format!("{scan:?}").contains("a2V5"));
    }
}
