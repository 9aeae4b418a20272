//! Scan Key Codes: what the retailer's app shows as a QR code. One codec writes them and reads them.
//!
//! Letters and digits only, 49 to 154 of them:
//!
//! | part | length |
//! |---|---|
//! | `JWO` | 3 |
//! | the retailer's own prefix | 4 as a rule, configured |
//! | recognition token: maps to a shopper, perhaps to a device | 32 |
//! | when the code was made: Unix seconds, or milliseconds by configuration | 10 or 13 |
//! | the retailer's own information, may be empty | the rest |
//! | the signature of all before it, by configuration | 17 |

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

use super::code_signature::{SIGNATURE_LENGTH, SigningKeys};
use super::decision::Denial;
use super::store::ScanKeyWindow;

/// What every code starts with.
pub const FIXED_PREFIX: &str = "JWO";
/// The shortest code, in characters.
pub const MIN_LENGTH: usize = 49;
/// The longest code, in characters.
pub const MAX_LENGTH: usize = 154;
/// What the network may take, either way of a code's window.
pub const NETWORK_ALLOWANCE: TimeDelta = TimeDelta::seconds(15);

const TOKEN_LENGTH: usize = 32;

/// How a code says when it was made.
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

/// Why a format cannot be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    /// The prefix has other characters.
    #[error("may hold only letters A to Z, a to z and digits")]
    NotAlphanumeric,
    /// Codes would be too short or too long.
    #[error("would make the shortest code {0} characters long; it must be 49 to 154")]
    Length(usize),
}

/// Why a code cannot be written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The custom information has other characters than letters and digits.
    #[error("the custom information may hold only letters A to Z, a to z and digits")]
    NotAlphanumeric,
    /// The code would be longer than 154 characters.
    #[error("the custom information may be at most {0} characters long")]
    TooLong(usize),
    /// The time does not fit the code's digits (years 2001 to 2286).
    #[error("the time does not fit the code's timestamp: years 2001 to 2286 do")]
    Time,
}

/// A recognition token: 32 letters and digits that stand for a shopper. A secret: it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct RecognitionToken(String);

/// A text that is not a recognition token.
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

    /// The token itself: for hashing, and for writing a code.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecognitionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecognitionToken(…)")
    }
}

/// What all codes of one retailer have in common.
#[derive(Clone, Debug)]
pub struct ScanKeyFormat {
    customer_prefix: String,
    unit: TimestampUnit,
    /// Codes are signed with these, if there are any.
    signing_keys: Option<SigningKeys>,
}

impl ScanKeyFormat {
    /// The format for a retailer's prefix, way to say the time, and keys to sign with, if codes are signed.
    ///
    /// # Errors
    /// When the prefix is not letters and digits, or the shortest code, its signature included, would fall outside 49 to 154
    /// characters.
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
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.signing_keys.is_some()
    }

    /// How long the custom information may be.
    #[must_use]
    pub fn max_custom(&self) -> usize {
        MAX_LENGTH.saturating_sub(self.shortest())
    }

    /// Writes the code for a token, made at `made_at` (cut to the unit), with the retailer's own information behind it, and
    /// signs it if codes are signed.
    ///
    /// # Errors
    /// When that information or the time does not fit.
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

    /// A code without its signature: the same whichever key signed it.
    #[must_use]
    pub fn unsigned<'a>(&self, code: &'a str) -> &'a str {
        code.len().checked_sub(self.signature_length()).and_then(|length| code.get(..length)).unwrap_or(code)
    }

    /// Reads a code. `None` when a character, the length, a prefix, the timestamp or the signature is wrong.
    #[must_use]
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
        let made_at = self.instant(made_at)?;
        if self.signing_keys.as_ref().is_some_and(|keys| !keys.verify(code, signature)) {
            return None;
        }
        Some(ScanKeyCode { token, made_at, custom: cursor.finish() })
    }

    fn instant(&self, digits: &str) -> Option<DateTime<Utc>> {
        let number = digits.parse().ok()?; // letters and digits only get here, so no sign does
        match self.unit {
            TimestampUnit::Seconds => DateTime::from_timestamp(number, 0),
            TimestampUnit::Milliseconds => DateTime::from_timestamp_millis(number),
        }
    }

    /// The regular expression that Amazon's Merchant Portal asks for. To Amazon, a signature is part of the custom information.
    #[must_use]
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

/// A code, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanKeyCode<'a> {
    /// Whom it stands for.
    pub token: RecognitionToken,
    /// When it was made, by the clock of whoever made it.
    pub made_at: DateTime<Utc>,
    /// The retailer's own information.
    pub custom: &'a str,
}

impl ScanKeyCode<'_> {
    /// How old the code was when the event happened; below zero where it was made later.
    #[must_use]
    pub fn age_at(&self, event_at: DateTime<Utc>) -> TimeDelta {
        event_at.signed_duration_since(self.made_at)
    }

    /// Whether the code was fresh when the event happened: exact instants, the bounds themselves pass.
    ///
    /// # Errors
    /// [`Denial::KeyExpired`] when older than the window and the network's allowance, [`Denial::InvalidKey`] when made later
    /// than the allowance after the event.
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

/// What is still to be read of a code. Only ASCII gets here, so that characters are bytes.
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

#[cfg(test)]
#[path = "scan_key_code_tests.rs"]
mod tests;
