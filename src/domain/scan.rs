//! A scan: one valid request to verify an identity key. The HTTP layer parses it once; later code works only with these
//! types, never with raw strings.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

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
    /// The name of the caller that has sent the scan, if callers are configured.
    pub caller: Option<Arc<str>>,
}

/// What the ledger keeps of a scan, apart from its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanDetails {
    /// The gate interaction.
    pub event: AuthEvent,
    /// The store of the gate.
    pub store_id: StoreId,
    /// How the key was read, if the gate has said so.
    pub channel: Option<KeyChannel>,
    /// The name of the caller that sent the scan, if callers were configured.
    pub caller: Option<Arc<str>>,
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

/// Reads `authEvent.timestamp` in one strict form, so that every part of the service reads it the same way:
/// `YYYY-MM-DDTHH:MM:SS`, a fraction of 1 to 9 digits or none, then `Z` or `+00:00`; capitals, seconds 00 to 59. `None`
/// for anything else, a date that does not exist included.
pub(crate) fn parse_utc(text: &str) -> Option<DateTime<Utc>> {
    let local = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let (seconds, fraction) = match local.split_once('.') {
        Some((seconds, fraction)) => (seconds, Some(fraction)),
        None => (local, None),
    };
    // Check the shape first: `str::parse` also accepts signs and other widths.
    let shape = b"0000-00-00T00:00:00";
    let shaped = seconds.len() == shape.len()
        && seconds.bytes().zip(shape).all(|(byte, want)| match want {
            b'0' => byte.is_ascii_digit(),
            _ => byte == *want,
        });
    let fraction_fits =
        fraction.is_none_or(|digits| (1..=9).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()));
    if !shaped || !fraction_fits {
        return None;
    }
    let number = |at: Range<usize>| seconds.get(at)?.parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(number(0..4)?.try_into().ok()?, number(5..7)?, number(8..10)?)?;
    let nanoseconds = match fraction {
        Some(digits) => format!("{digits:0<9}").parse().ok()?,
        None => 0,
    };
    date.and_hms_nano_opt(number(11..13)?, number(14..16)?, number(17..19)?, nanoseconds).map(|time| time.and_utc())
}
