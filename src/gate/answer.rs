//! What an answer means to the gate.

use std::time::Duration;

use reqwest::header::HeaderValue;
use serde_json::Value;

use super::report::{Cause, GateDecision, Outcome};

/// An answer as far as the gate reads it.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
    /// Whether `body` is all of it.
    pub(super) whole: bool,
}

impl Answer {
    /// The decision this answer brings; `None` if the gate must ask again.
    pub(super) fn verdict(&self) -> Option<(GateDecision, Cause)> {
        match self.status {
            200 if self.whole && names_visitor(&self.body) => Some((GateDecision::Open, Cause::Authorized)),
            400 | 401 => Some((GateDecision::Closed, Cause::Refused)),
            _ => None,
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        Outcome::Answered { status: self.status, body: String::from_utf8_lossy(&self.body).into_owned() }
    }
}

/// Whether a body has `visitorDetails` that tell who enters: an object with an id and a known type.
fn names_visitor(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let detail = |name| body.get("visitorDetails")?.get(name)?.as_str();
    detail("id").is_some_and(|id| !id.is_empty())
        && matches!(detail("type"), Some("SHOPPER" | "ASSOCIATE" | "CASH_SHOPPER"))
}

/// `Retry-After` in whole seconds. Its other form, a date, is not read: it would need a wall clock.
pub(super) fn whole_seconds(value: &HeaderValue) -> Option<Duration> {
    let digits = value.to_str().ok()?.trim();
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Digits that do not fit are a wait past every budget.
    all_digits.then(|| Duration::from_secs(digits.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VISITOR: &str = r#"{"visitorDetails":{"id":"v","type":"SHOPPER"},"more":1}"#;

    fn verdict(status: u16, body: &str, whole: bool) -> Option<(GateDecision, Cause)> {
        let body = body.as_bytes().to_vec();
        Answer { status, retry_after: None, body, whole }.verdict()
    }

    fn retry_after(value: &'static str) -> Option<Duration> {
        whole_seconds(&HeaderValue::from_static(value))
    }

    #[test]
    fn a_200_opens_only_if_it_names_a_visitor() {
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
        assert_eq!(verdict(200, VISITOR, false), None, "cut short");
    }

    #[test]
    fn only_400_and_401_refuse_whatever_they_say() {
        for status in [400, 401] {
            let refused = Some((GateDecision::Closed, Cause::Refused));
            assert_eq!(verdict(status, VISITOR, false), refused);
        }
        for status in [201, 204, 302, 403, 404, 429, 500, 503] {
            assert_eq!(verdict(status, VISITOR, true), None, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_whole_seconds_only() {
        assert_eq!(retry_after("0"), Some(Duration::ZERO));
        assert_eq!(retry_after("120"), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("99999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for other in ["", "-1", "+1", "1.5", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(retry_after(other), None, "{other}");
        }
    }
}
