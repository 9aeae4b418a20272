//! Scan Key Codes, which the retailer's app shows as a QR code. This module both writes and reads them.
//!
//! A code has 49 to 154 letters and digits:
//!
//! | part | length |
//! |---|---|
//! | `JWO` | 3 |
//! | the retailer's own prefix, configured | 4 by default |
//! | recognition token: identifies a shopper, and maybe a device | 32 |
//! | the time the code was made: Unix seconds, or milliseconds if configured | 10 or 13 |
//! | custom customer information, may be empty | the rest |
//! | a signature of everything before it, if configured | 17 |
//!
//! Without a signing key, a client can neither make a signed code nor change one.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;

use super::decision::Denial;
use super::store::ScanKeyWindow;

/// The prefix of every code.
pub(crate) const FIXED_PREFIX: &str = "JWO";
/// The shortest code, in characters.
pub const MIN_LENGTH: usize = 49;
/// The longest code, in characters.
pub const MAX_LENGTH: usize = 154;
/// The network allowance, added at both ends of a code's window.
pub(crate) const NETWORK_ALLOWANCE: TimeDelta = TimeDelta::seconds(15);

const TOKEN_LENGTH: usize = 32;
const SIGNATURE_LENGTH: usize = 17;
/// The text that separates signatures from the digests of `HashKey`, in case an operator uses one key for both.
const SIGNATURE_PURPOSE: &[u8] = b"scan key code signature";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How a code states the time it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Unix seconds, 10 digits.
    Seconds,
    /// Unix milliseconds, 13 digits.
    Milliseconds,
}

impl TimestampUnit {
    fn digits(self) -> usize {
        match self {
            Self::Seconds => 10,
            Self::Milliseconds => 13,
        }
    }
}

/// Why a format is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    #[error("may hold only letters A to Z, a to z and digits")]
    NotAlphanumeric,
    /// Codes would be too short or too long.
    #[error("would make the shortest code {0} characters long; it must be 49 to 154")]
    Length(usize),
}

/// Why a code cannot be written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The custom information has a character that is not a letter or digit.
    #[error("the custom information may hold only letters A to Z, a to z and digits")]
    NotAlphanumeric,
    /// The code would be longer than 154 characters.
    #[error("the custom information may be at most {0} characters long")]
    TooLong(usize),
    /// The time needs another number of digits: the timestamp can state the years 2001 to 2286.
    #[error("the time does not fit the code's timestamp, which can state the years 2001 to 2286")]
    Time,
}

/// A recognition token: 32 letters and digits that identify a shopper. It is a secret and cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RecognitionToken(String);

/// The text is not a recognition token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a recognition token is 32 letters and digits")]
pub struct TokenError;

impl RecognitionToken {
    /// Takes 32 ASCII letters and digits; case matters.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() == TOKEN_LENGTH && is_alphanumeric(text) { Ok(Self(text.to_owned())) } else { Err(TokenError) }
    }

    /// The token's text, for hashing and for writing a code.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecognitionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecognitionToken(…)")
    }
}

/// The format that all codes of one retailer share.
#[derive(Clone, Debug)]
pub struct ScanKeyFormat {
    customer_prefix: String,
    unit: TimestampUnit,
    /// The keys that sign codes, if codes are signed.
    signing_keys: Option<SigningKeys>,
}

impl ScanKeyFormat {
    /// A format with the retailer's prefix, the unit of the timestamp, and the signing keys if codes are signed.
    ///
    /// # Errors
    /// When the prefix has other characters than letters and digits, or the shortest code, including its signature, is
    /// not 49 to 154 characters long.
    pub fn new(
        customer_prefix: &str,
        unit: TimestampUnit,
        signing_keys: Option<SigningKeys>,
    ) -> Result<Self, FormatError> {
        if !is_alphanumeric(customer_prefix) {
            return Err(FormatError::NotAlphanumeric);
        }
        let format = Self { customer_prefix: customer_prefix.to_owned(), unit, signing_keys };
        let shortest = format.shortest();
        if !(MIN_LENGTH..=MAX_LENGTH).contains(&shortest) {
            return Err(FormatError::Length(shortest));
        }
        Ok(format)
    }

    /// The length of a code without custom information.
    fn shortest(&self) -> usize {
        [FIXED_PREFIX.len(), self.customer_prefix.len(), TOKEN_LENGTH, self.unit.digits(), self.signature_length()]
            .into_iter()
            .fold(0, usize::saturating_add)
    }

    fn signature_length(&self) -> usize {
        self.signing_keys.as_ref().map_or(0, |_| SIGNATURE_LENGTH)
    }

    /// Whether codes end in a signature.
    pub fn is_signed(&self) -> bool {
        self.signing_keys.is_some()
    }

    /// The maximum length of the custom information.
    pub fn max_custom(&self) -> usize {
        MAX_LENGTH.saturating_sub(self.shortest())
    }

    /// Writes the code for a token, made at `made_at` (truncated to the unit), followed by the custom information, and
    /// signs it if codes are signed.
    ///
    /// # Errors
    /// When the custom information or the time does not fit.
    pub fn write(&self, token: &RecognitionToken, made_at: DateTime<Utc>, custom: &str) -> Result<String, WriteError> {
        if !is_alphanumeric(custom) {
            return Err(WriteError::NotAlphanumeric);
        }
        if custom.len() > self.max_custom() {
            return Err(WriteError::TooLong(self.max_custom()));
        }
        let made_at = match self.unit {
            TimestampUnit::Seconds => made_at.timestamp(),
            TimestampUnit::Milliseconds => made_at.timestamp_millis(),
        };
        let made_at = made_at.to_string();
        if made_at.len() != self.unit.digits() || made_at.starts_with('-') {
            return Err(WriteError::Time);
        }
        let mut code = [FIXED_PREFIX, &self.customer_prefix, token.expose(), &made_at, custom].concat();
        if let Some(keys) = &self.signing_keys {
            let signature = keys.sign(&code);
            code.push_str(&signature);
        }
        Ok(code)
    }

    /// A code without its signature. It does not depend on the key that signed the code.
    pub fn unsigned<'a>(&self, code: &'a str) -> &'a str {
        code.len().checked_sub(self.signature_length()).and_then(|length| code.get(..length)).unwrap_or(code)
    }

    /// Reads a code. `None` when a character, the length, a prefix, the timestamp or the signature is wrong.
    pub fn read<'a>(&self, code: &'a str) -> Option<ScanKeyCode<'a>> {
        if !is_alphanumeric(code) || !(MIN_LENGTH..=MAX_LENGTH).contains(&code.len()) {
            return None;
        }
        let (code, signature) = code.split_at_checked(code.len().checked_sub(self.signature_length())?)?;
        let mut cursor = Cursor(code);
        cursor.literal(FIXED_PREFIX)?;
        cursor.literal(&self.customer_prefix)?;
        let token = RecognitionToken::parse(cursor.take(TOKEN_LENGTH)?).ok()?;
        let made_at = cursor.take(self.unit.digits())?;
        let made_at = self.parse_timestamp(made_at)?;
        if self.signing_keys.as_ref().is_some_and(|keys| !keys.verify(code, signature)) {
            return None;
        }
        Some(ScanKeyCode { token, made_at, custom: cursor.finish() })
    }

    fn parse_timestamp(&self, digits: &str) -> Option<DateTime<Utc>> {
        let number = digits.parse().ok()?; // the code has only letters and digits, so there is no sign
        match self.unit {
            TimestampUnit::Seconds => DateTime::from_timestamp(number, 0),
            TimestampUnit::Milliseconds => DateTime::from_timestamp_millis(number),
        }
    }

    /// The regular expression to enter in Amazon's Merchant Portal. To Amazon, a signature is part of the custom
    /// information.
    pub fn pattern(&self) -> String {
        let signature = self.signature_length();
        format!(
            "^{FIXED_PREFIX}{}[0-9A-Za-z]{{{TOKEN_LENGTH}}}[0-9]{{{}}}[0-9A-Za-z]{{{signature},{}}}$",
            self.customer_prefix,
            self.unit.digits(),
            self.max_custom().saturating_add(signature)
        )
    }
}

/// The parts of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanKeyCode<'a> {
    /// The recognition token, which identifies the shopper.
    pub token: RecognitionToken,
    /// When the code was made, by the clock of its maker.
    pub made_at: DateTime<Utc>,
    /// The custom customer information.
    pub custom: &'a str,
}

impl ScanKeyCode<'_> {
    /// How old the code was at the time of the event; negative if it was made later.
    pub fn age_at(&self, event_at: DateTime<Utc>) -> TimeDelta {
        event_at.signed_duration_since(self.made_at)
    }

    /// Whether the code was fresh at the time of the event. Instants are compared exactly; the bounds themselves pass.
    ///
    /// # Errors
    /// [`Denial::KeyExpired`] if the code is older than the window plus the network allowance, [`Denial::InvalidKey`]
    /// if it was made later than the event plus the allowance.
    pub fn check_age(&self, event_at: DateTime<Utc>, window: ScanKeyWindow) -> Result<(), Denial> {
        let age = self.age_at(event_at);
        let oldest = window.as_delta().checked_add(&NETWORK_ALLOWANCE).unwrap_or(TimeDelta::MAX);
        let youngest = TimeDelta::zero().checked_sub(&NETWORK_ALLOWANCE).unwrap_or(TimeDelta::MIN);
        if age > oldest {
            Err(Denial::KeyExpired)
        } else if age < youngest {
            Err(Denial::InvalidKey)
        } else {
            Ok(())
        }
    }
}

/// The unread rest of a code. The text is ASCII, so characters are bytes.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn literal(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a str> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn finish(self) -> &'a str {
        self.0
    }
}

fn is_alphanumeric(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The signing keys, at least one. The first signs and all verify, so keys can be rotated without interruption. They
/// cannot be printed.
#[derive(Clone)]
pub struct SigningKeys {
    first: Hmac<Sha256>,
    others: Vec<Hmac<Sha256>>,
}

impl SigningKeys {
    /// Takes keys of any length, in order. `None` if there are none.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Option<Self> {
        // HMAC accepts keys of any length.
        let mut keys = keys.into_iter().map_while(|key| Hmac::new_from_slice(key.as_ref()).ok());
        let first = keys.next()?;
        Some(Self { first, others: keys.collect() })
    }

    /// The signature of a code that has none yet.
    fn sign(&self, code: &str) -> String {
        signature(&self.first, code).into_iter().map(char::from).collect()
    }

    /// Whether one of the keys made this signature. The comparison takes constant time.
    fn verify(&self, code: &str, given: &str) -> bool {
        let keys = [&self.first].into_iter().chain(&self.others);
        let verified =
            keys.fold(Choice::from(0), |verified, key| verified | signature(key, code).ct_eq(given.as_bytes()));
        verified.into()
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

/// Makes a signature, which holds 101 bits:
///
/// 1. Compute an HMAC-SHA-256 over the text `scan key code signature` and the code, each preceded by its length as
///    eight bytes.
/// 2. Read the first 16 bytes as a number, most significant byte first, and take it modulo 62 to the power 17.
/// 3. Write the result in base 62 (`0` to `9`, `A` to `Z`, `a` to `z`), most significant digit first.
fn signature(key: &Hmac<Sha256>, code: &str) -> [u8; SIGNATURE_LENGTH] {
    let mut mac = key.clone();
    for part in [SIGNATURE_PURPOSE, code.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let mac = mac.finalize().into_bytes();
    let mut number = mac.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let mut signature = [0; SIGNATURE_LENGTH];
    // Keep the lowest 17 digits.
    for character in signature.iter_mut().rev() {
        let digit = usize::try_from(number.rem_euclid(62)).unwrap_or_default();
        *character = DIGITS.get(digit).copied().unwrap_or_default();
        number = number.div_euclid(62);
    }
    signature
}

#[cfg(test)]
#[path = "scan_key_code_tests.rs"]
mod tests;
