//! Parses the body of the gate's call into a [`Scan`]. The rules are checked in a fixed order, and the first failure is
//! the answer.

use std::borrow::Cow;

use thiserror::Error;

use crate::domain::identity_key::{IdentityKey, IdentityKeyError};
use crate::domain::ids::{EventId, RequestId, StoreId, TextIdError};
use crate::domain::scan::{AuthEvent, KeyChannel, Location, Scan, parse_utc};
use crate::http::members::{Members, Raw};
use crate::http::request_log::LogIds;

/// The rule that a request breaks. The text is the message that Amazon receives.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is described by its message")]
pub enum Invalid {
    #[error("Invalid request body")]
    Body,
    #[error("Missing required field: {0}")]
    Missing(&'static str),
    #[error("Invalid requestId format")]
    RequestId,
    #[error("identityKey exceeds maximum length of 1000 characters")]
    IdentityKeyTooLong,
    #[error("Invalid identityKey encoding")]
    IdentityKeyEncoding,
    #[error("storeId exceeds maximum length of 255 characters")]
    StoreIdTooLong,
    #[error("Invalid storeId")]
    StoreId,
    #[error("Invalid authEvent format")]
    AuthEvent,
    #[error("Invalid authEvent.id format")]
    AuthEventId,
    #[error("Invalid authEvent.timestamp format")]
    AuthEventTimestamp,
    #[error("Invalid authEvent.location value")]
    AuthEventLocation,
    #[error("Invalid keyChannel value")]
    KeyChannel,
}

impl Invalid {
    /// All of them, in the order in which they are checked.
    pub(crate) const ALL: [Self; 18] = [
        Self::Body,
        Self::Missing("requestId"),
        Self::RequestId,
        Self::Missing("identityKey"),
        Self::IdentityKeyTooLong,
        Self::IdentityKeyEncoding,
        Self::Missing("storeId"),
        Self::StoreIdTooLong,
        Self::StoreId,
        Self::Missing("authEvent"),
        Self::AuthEvent,
        Self::Missing("authEvent.id"),
        Self::AuthEventId,
        Self::Missing("authEvent.timestamp"),
        Self::AuthEventTimestamp,
        Self::Missing("authEvent.location"),
        Self::AuthEventLocation,
        Self::KeyChannel,
    ];
}

/// Parses a request body as the gate's call does, for benchmarks and fuzzing.
///
/// # Errors
/// The first rule that the body breaks.
pub fn read_scan(body: &[u8]) -> Result<Scan, Invalid> {
    let wire = WireRequest::parse(body)?;
    wire.scan(&wire.log_ids())
}

/// A body that is a JSON object. Its fields are not checked yet.
pub(crate) struct WireRequest<'a> {
    request_id: Option<Raw<'a>>,
    identity_key: Option<Raw<'a>>,
    store_id: Option<Raw<'a>>,
    auth_event: Option<Raw<'a>>,
    key_channel: Option<Raw<'a>>,
    event_id: Option<Raw<'a>>,
    timestamp: Option<Raw<'a>>,
    location: Option<Raw<'a>>,
}

impl<'a> WireRequest<'a> {
    /// Rule 1: a JSON object that is not empty and has no known member twice, at either level.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Invalid> {
        let text = std::str::from_utf8(body).map_err(|_| Invalid::Body)?;
        let names = ["requestId", "identityKey", "storeId", "authEvent", "keyChannel"];
        let members = Members::parse(text, names).filter(|members| !members.is_empty).ok_or(Invalid::Body)?;
        let [request_id, identity_key, store_id, auth_event, key_channel] = members.values;
        let [event_id, timestamp, location] = match auth_event.filter(|event| event.is_object()) {
            Some(event) => event.members(["id", "timestamp", "location"]).ok_or(Invalid::Body)?.values,
            None => [None; 3],
        };
        Ok(Self { request_id, identity_key, store_id, auth_event, key_channel, event_id, timestamp, location })
    }

    /// The ids for the log line, as far as they are valid.
    pub(crate) fn log_ids(&self) -> LogIds {
        let text = |raw: Option<Raw<'a>>| raw.and_then(Raw::as_str);
        LogIds {
            request_id: text(self.request_id).and_then(|text| RequestId::parse(&text)),
            event_id: text(self.event_id).and_then(|text| EventId::parse(&text)),
            store_id: text(self.store_id).and_then(|text| StoreId::parse(&text).ok()),
        }
    }

    /// Rules 2 to 9 in order. `ids` are those of [`log_ids`](Self::log_ids), so that they are not parsed twice. Rule
    /// 10, whether the store exists, is checked by the use case.
    pub(crate) fn scan(&self, ids: &LogIds) -> Result<Scan, Invalid> {
        present(self.request_id, "requestId")?;
        ids.request_id.ok_or(Invalid::RequestId)?; // not part of the scan: it is new on every retry

        let identity_key = required(self.identity_key, "identityKey", Invalid::IdentityKeyEncoding)?;
        let identity_key = IdentityKey::from_base64(&identity_key).map_err(|error| match error {
            IdentityKeyError::TooLong => Invalid::IdentityKeyTooLong,
            IdentityKeyError::Encoding => Invalid::IdentityKeyEncoding,
        })?;

        let store_id = match &ids.store_id {
            Some(store_id) => store_id.clone(),
            None => {
                StoreId::parse(&required(self.store_id, "storeId", Invalid::StoreId)?).map_err(|error| match error {
                    TextIdError::TooLong => Invalid::StoreIdTooLong,
                    TextIdError::Empty => Invalid::StoreId,
                })?
            }
        };

        if !present(self.auth_event, "authEvent")?.is_object() {
            return Err(Invalid::AuthEvent);
        }
        present(self.event_id, "authEvent.id")?;
        let id = ids.event_id.ok_or(Invalid::AuthEventId)?;
        let timestamp = required(self.timestamp, "authEvent.timestamp", Invalid::AuthEventTimestamp)?;
        let timestamp = parse_utc(&timestamp).ok_or(Invalid::AuthEventTimestamp)?;
        let location = required(self.location, "authEvent.location", Invalid::AuthEventLocation)?;
        let location = Location::parse(&location).ok_or(Invalid::AuthEventLocation)?;

        let channel = match self.key_channel.filter(|channel| !channel.is_null()) {
            Some(raw) => {
                let channel = raw.as_str().and_then(|text| KeyChannel::parse(&text));
                Some(channel.ok_or(Invalid::KeyChannel)?)
            }
            None => None,
        };
        Ok(Scan { identity_key, store_id, event: AuthEvent { id, timestamp, location }, channel, caller: None })
    }
}

/// A required member. Null counts as absent.
fn present<'a>(raw: Option<Raw<'a>>, name: &'static str) -> Result<Raw<'a>, Invalid> {
    raw.filter(|raw| !raw.is_null()).ok_or(Invalid::Missing(name))
}

/// A required string.
fn required<'a>(raw: Option<Raw<'a>>, name: &'static str, otherwise: Invalid) -> Result<Cow<'a, str>, Invalid> {
    present(raw, name)?.as_str().ok_or(otherwise)
}
