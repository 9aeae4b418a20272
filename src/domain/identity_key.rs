//! The identity key: the bytes that the gate's reader read, decoded from Base64. An attacker may control every byte.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decision::Denial;
use super::scan_key_code::{FIXED_PREFIX, MIN_LENGTH};

/// The longest identity key in a request, in Unicode characters of its Base64 form.
pub(crate) const MAX_ENCODED: usize = 1000;

/// The longest identity key after decoding, in bytes.
pub(crate) const MAX_DECODED: usize = MAX_ENCODED / 4 * 3;

/// The standard alphabet; unused trailing bits must be zero. `from_base64` checks the padding before it calls the
/// engine.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a text is not an identity key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityKeyError {
    /// More than [`MAX_ENCODED`] characters.
    TooLong,
    /// Empty, or not Base64 in the standard alphabet.
    Encoding,
}

/// A decoded identity key, of 1 to [`MAX_DECODED`] bytes. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct IdentityKey(Vec<u8>);

impl IdentityKey {
    /// Decodes standard Base64, fully padded or not padded, without white space, with unused trailing bits zero.
    ///
    /// # Errors
    /// When the text is too long, empty, or not such Base64.
    pub fn from_base64(text: &str) -> Result<Self, IdentityKeyError> {
        if text.chars().nth(MAX_ENCODED).is_some() {
            return Err(IdentityKeyError::TooLong);
        }
        let half_padded = text.ends_with('=') && !text.len().is_multiple_of(4);
        if text.is_empty() || half_padded {
            return Err(IdentityKeyError::Encoding);
        }
        match BASE64.decode(text) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self(bytes)),
            _ => Err(IdentityKeyError::Encoding),
        }
    }

    /// The decoded bytes, for hashing.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What kind of key this is, judged by its form alone.
    pub fn presented(&self) -> Presented<'_> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if is_printable(text) && is_scan_key_code(text) => Presented::ScanKeyCode(text),
            Ok(text) if is_printable(text) => Presented::Key(text),
            _ => Presented::Unreadable,
        }
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityKey(…)")
    }
}

/// The form of a decoded identity key.
pub enum Presented<'a> {
    /// Not printable ASCII: refused without a directory query.
    Unreadable,
    /// Has the form of a Scan Key Code; never looked up as a key.
    ScanKeyCode(&'a str),
    /// To be looked up in the directory: a badge, a static code, or an unknown key.
    Key(&'a str),
}

/// Whether all characters of a text are printable ASCII (0x20 to 0x7E).
pub(crate) fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// Whether a text is treated as a Scan Key Code. Such a text cannot be registered as a key.
pub(crate) fn is_scan_key_code(text: &str) -> bool {
    text.starts_with(FIXED_PREFIX) && text.len() >= MIN_LENGTH
}

/// The denial for an unregistered key: `InvalidKey` if it looks like an attempt at a Scan Key Code, otherwise
/// `KeyNotFound`.
pub(crate) fn unregistered(text: &str) -> Denial {
    if text.starts_with(FIXED_PREFIX) || text.len() >= MIN_LENGTH { Denial::InvalidKey } else { Denial::KeyNotFound }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_is_looked_up() {
        for byte in 0..=u8::MAX {
            let key = IdentityKey(vec![b'a', byte, b'z']);
            let is_key = matches!(key.presented(), Presented::Key(_));
            assert_eq!(is_key, (0x20..=0x7e).contains(&byte), "{byte:#04x}");
        }
    }

    #[test]
    fn key_cannot_be_printed() {
        let key = IdentityKey::from_base64("c2VjcmV0").expect("Base64");
        assert_eq!(format!("{key:?}"), "IdentityKey(…)");
    }
}
