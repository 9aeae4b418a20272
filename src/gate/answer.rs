//! What an answer means to the gate.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::HeaderValue;
use serde_json::Value;

use super::report::{Cause, GateDecision, Outcome};

/// The parts of an answer that the gate reads.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
    /// Whether `body` is the complete body.
    pub(super) is_complete: bool,
}

impl Answer {
    /// The gate's decision on this answer; `None` if the gate must retry.
    pub(super) fn verdict(&self) -> Option<(GateDecision, Cause)> {
        match self.status {
            200 if self.is_complete && has_visitor(&self.body) => Some((GateDecision::Open, Cause::Authorized)),
            400 | 401 => Some((GateDecision::Closed, Cause::Refused)),
            _ => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
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
pub(super) fn retry_after(value: &HeaderValue, now: DateTime<Utc>) -> Option<Duration> {
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
}
