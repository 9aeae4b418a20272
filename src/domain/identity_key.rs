//! The identity key: what the gate's reader saw, decoded. An attacker controls every byte of it.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decision::Denial;
use super::scan_key_code::{FIXED_PREFIX, MIN_LENGTH};

/// The longest identity key on the wire, in Unicode characters of its Base64 form.
pub const MAX_ENCODED: usize = 1000;

/// The longest identity key after decoding, in bytes.
pub const MAX_DECODED: usize = MAX_ENCODED / 4 * 3;

/// Standard alphabet; padding is looked at before the engine sees it; bits that say nothing must be zero.
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
    /// Decodes what the gate sent: standard Base64, padded in full or not at all, no white space, no stray bits.
    ///
    /// # Errors
    /// When it is too long, empty, or not that.
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
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the shopper has shown, by its form alone.
    #[must_use]
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
    /// Not printable ASCII: refused unseen.
    Unreadable,
    /// Has the form of a Scan Key Code; never looked up as a key.
    ScanKeyCode(&'a str),
    /// To be looked up: a badge, a static code, or nothing that anybody registered.
    Key(&'a str),
}

/// Whether a text is printable ASCII (0x20 to 0x7E) throughout.
#[must_use]
pub fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| (0x20..=0x7e).contains(&byte))
}

/// Whether a text is taken for a Scan Key Code, which also means that no such key can be registered.
#[must_use]
pub fn is_scan_key_code(text: &str) -> bool {
    text.starts_with(FIXED_PREFIX) && text.len() >= MIN_LENGTH
}

/// Why a key that nobody registered is refused: what looks like an attempt at a Scan Key Code is invalid, anything else is
/// not found.
#[must_use]
pub fn unregistered(text: &str) -> Denial {
    if text.starts_with(FIXED_PREFIX) || text.len() >= MIN_LENGTH { Denial::InvalidKey } else { Denial::KeyNotFound }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded_in_full_or_not_at_all() {
        for good in ["YQ==", "YQ", "YWI=", "YWI", "YWJj", "+/+/"] {
            assert!(IdentityKey::from_base64(good).is_ok(), "{good}");
        }
        for bad in ["", "=", "====", "Y", "YQ=", "YQ===", "YQ ==", "YQ==\n", "YR==", "YWJ=", "-_-_", "YQ==YQ==", "ä"] {
            assert_eq!(IdentityKey::from_base64(bad), Err(IdentityKeyError::Encoding), "{bad}");
        }
    }

    #[test]
    fn length_counts_characters_and_comes_first() {
        assert!(IdentityKey::from_base64(&"A".repeat(1000)).is_ok());
        assert_eq!(IdentityKey::from_base64(&"!".repeat(1001)), Err(IdentityKeyError::TooLong));
        assert_eq!(IdentityKey::from_base64(&"ä".repeat(1000)), Err(IdentityKeyError::Encoding));
    }

    #[test]
    fn a_key_cannot_be_printed() {
        let key = IdentityKey::from_base64("c2VjcmV0").expect("Base64");
        assert_eq!(format!("{key:?}"), "IdentityKey(…)");
    }
}
