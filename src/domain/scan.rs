//! A scan: one valid request to verify an identity key. Parsed once at the edge; after that no raw string travels.

use chrono::{DateTime, Utc};

use super::identity_key::IdentityKey;
use super::ids::{EventId, StoreId};

/// One call of the gate, every part valid by itself. Whether the store exists and who holds the key is not known yet.
#[derive(Clone, Debug)]
pub struct Scan {
    /// What the reader saw.
    pub identity_key: IdentityKey,
    /// Where.
    pub store_id: StoreId,
    /// The interaction, the same on every retry.
    pub event: AuthEvent,
    /// How the key was read, when the gate says so.
    pub channel: Option<KeyChannel>,
}

/// One interaction with a gate: `authEvent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthEvent {
    /// Unique to the interaction; retries repeat it.
    pub id: EventId,
    /// When it happened, by the gate's clock. Never compared with ours.
    pub timestamp: DateTime<Utc>,
    /// Which side of the store.
    pub location: Location,
}

/// Which gate: `authEvent.location`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Into the store.
    Entry,
    /// Out of it.
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

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Entry => "ENTRY",
            Self::Exit => "EXIT",
        }
    }
}

/// How the reader read the key: `keyChannel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyChannel {
    /// Off a screen or paper.
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

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Optical => "OPTICAL",
            Self::Radio => "RADIO",
        }
    }
}
