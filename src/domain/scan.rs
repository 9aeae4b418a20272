//! A scan: one valid request to verify an identity key. The HTTP layer parses it once; later code works only with these
//! types, never with raw strings.

use chrono::{DateTime, Utc};

use super::identity_key::IdentityKey;
use super::ids::{EventId, StoreId};
use super::words::words;

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

words!(Location { Entry = "ENTRY", Exit = "EXIT" });

/// How the gate's reader read the key: `keyChannel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyChannel {
    /// From a screen or paper, such as a QR code.
    Optical,
    /// From a badge.
    Radio,
}

words!(KeyChannel { Optical = "OPTICAL", Radio = "RADIO" });
