//! A scan: one valid request to verify an identity key. The HTTP layer parses it once; later code works only with these
//! types, never with raw strings.

use chrono::{DateTime, Utc};

use super::identity_key::IdentityKey;
use super::ids::{EventId, StoreId};

/// One call of the gate, with every field valid. Not checked yet: whether the store exists, and which shopper the key
/// belongs to.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The identity key that the gate's reader read.
    pub identity_key: IdentityKey,
    /// The store of the gate.
    pub store_id: StoreId,
    /// The gate interaction, the same on every retry.
    pub event: AuthEvent,
    /// How the key was read, if the gate says so.
    pub channel: Option<KeyChannel>,
}

/// One interaction with a gate: `authEvent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthEvent {
    /// Unique to the interaction; a retry repeats it.
    pub id: EventId,
    /// When the interaction happened, by the gate's clock. Never compared with the connector's clock.
    pub timestamp: DateTime<Utc>,
    /// Whether the gate is an entry or an exit.
    pub location: Location,
}

/// The side of the gate, entry or exit: `authEvent.location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Into the store.
    Entry,
    /// Out of the store.
    Exit,
}

impl Location {
    /// Reads `ENTRY` or `EXIT`, in capitals.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "ENTRY" => Some(Self::Entry),
            "EXIT" => Some(Self::Exit),
            _ => None,
        }
    }

    /// The value in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "ENTRY",
            Self::Exit => "EXIT",
        }
    }
}

/// How the gate's reader read the key: `keyChannel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyChannel {
    /// From a screen or paper, such as a QR code.
    Optical,
    /// From a badge.
    Radio,
}

impl KeyChannel {
    /// Reads `OPTICAL` or `RADIO`, in capitals.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "OPTICAL" => Some(Self::Optical),
            "RADIO" => Some(Self::Radio),
            _ => None,
        }
    }

    /// The value in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optical => "OPTICAL",
            Self::Radio => "RADIO",
        }
    }
}
