//! Identifiers. Each kind is a type of its own, so that one cannot be used as another, and each value is valid once it
//! exists.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

/// The longest text identifier, in Unicode characters.
pub(crate) const MAX_TEXT_ID: usize = 255;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TextIdError {
    #[error("is empty: it must have 1 to 255 characters")]
    Empty,
    /// More than [`MAX_TEXT_ID`] characters.
    #[error("is longer than 255 characters")]
    TooLong,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of 1 to 255 Unicode characters. Every character is allowed.
            ///
            /// # Errors
            /// When it is empty or longer.
            pub fn parse(text: &str) -> Result<Self, TextIdError> {
                if text.is_empty() {
                    Err(TextIdError::Empty)
                } else if text.chars().nth(MAX_TEXT_ID).is_some() {
                    Err(TextIdError::TooLong)
                } else {
                    Ok(Self(text.into()))
                }
            }

            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

text_id!(
    /// A store id, assigned by Amazon during onboarding.
    StoreId
);
text_id!(
    /// A visitor id, assigned by the retailer: `visitorDetails.id`.
    VisitorId
);
text_id!(
    /// A shopper's device: `shopperDeviceId`.
    DeviceId
);
text_id!(
    /// A payment method: `paymentSource.id`, which Amazon has deprecated.
    PaymentSourceId
);
text_id!(
    /// The issuer URL of an OpenID provider: `iss`.
    Issuer
);
text_id!(
    /// A customer id, assigned by the customer's provider: `sub` or another claim.
    SubjectId
);

/// Reads a UUID as the gate sends it: `8-4-4-4-12` hexadecimal digits in either case, any version and variant,
/// nothing around it.
pub(super) fn hyphenated(text: &str) -> Option<Uuid> {
    // The `uuid` crate also reads the braced, simple and URN forms; only the hyphenated form is 36 bytes long.
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $visibility:vis $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        $visibility struct $name(Uuid);

        impl $name {
            /// Reads `8-4-4-4-12` hexadecimal digits; two spellings of one UUID are equal. `None` for anything else.
            pub(crate) fn parse(text: &str) -> Option<Self> {
                hyphenated(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id!(
    /// The id of one request: new on every retry, so it is not part of the idempotency key.
    pub(crate) RequestId
);
uuid_id!(
    /// The id of one interaction with a gate: `authEvent.id`, the idempotency key.
    pub EventId
);

impl EventId {
    /// The id with these stored bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}
