//! The scan, and its request.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Timelike as _, Utc};
use serde::Serialize;
use uuid::Uuid;

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
pub(super) struct WireRequest<'a> {
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
    pub(super) fn new(scan: &'a GateScan, request_id: Uuid) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

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
