//! Identifiers: each its own type, so that one cannot stand in for another, and each valid once it exists.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

/// The longest text identifier, in Unicode characters.
pub const MAX_TEXT_ID: usize = 255;

/// Why a text is not an identifier.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TextIdError {
    /// Nothing stands there.
    #[error("is empty: 1 to 255 characters are wanted")]
    Empty,
    /// More than [`MAX_TEXT_ID`] characters.
    #[error("is longer than 255 characters")]
    TooLong,
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of 1 to 255 Unicode characters, whatever they are.
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
            #[must_use]
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
    /// A store, by the name that Amazon gave it during onboarding.
    StoreId
);
text_id!(
    /// A shopper or associate, by the retailer's name for them: `visitorDetails.id`.
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
    /// An OpenID provider, by its own name for itself, a URL: `iss`.
    Issuer
);
text_id!(
    /// A customer, by their provider's name for them: `sub` or another claim.
    SubjectId
);

/// Reads a UUID as the gate sends it: `8-4-4-4-12` hexadecimal digits in either case, any version and variant,
/// nothing around it.
pub(super) fn hyphenated(text: &str) -> Option<Uuid> {
    // The crate also reads braced, simple and URN forms; of all its forms only the hyphenated one is 36 bytes long.
    (text.len() == 36).then(|| Uuid::try_parse(text).ok()).flatten()
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Uuid);

        impl $name {
            /// Reads `8-4-4-4-12` hexadecimal digits; two spellings of one UUID are equal. `None` for anything else.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
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
    /// One request: new on every retry, so never part of what makes two scans the same.
    RequestId
);
uuid_id!(
    /// One interaction with a gate: `authEvent.id`, the key of idempotency.
    EventId
);

impl EventId {
    /// The id of these bytes, as they were stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_id_has_1_to_255_characters_not_bytes() {
        assert_eq!(StoreId::parse(""), Err(TextIdError::Empty));
        assert!(StoreId::parse(&"ß".repeat(255)).is_ok());
        assert_eq!(StoreId::parse(&"ß".repeat(256)), Err(TextIdError::TooLong));
    }

    #[test]
    fn only_the_hyphenated_form_is_a_uuid() {
        let plain = "11111111-2222-3333-4444-55555555abcd";
        assert_eq!(EventId::parse(plain), EventId::parse(&plain.to_uppercase()));
        for bad in [
            "11111111222233334444555555555555",
            "{11111111-2222-3333-4444-555555555555}",
            "urn:uuid:11111111-2222-3333-4444-555555555555",
            " 1111111-2222-3333-4444-555555555555",
            "11111111-2222-3333-4444-55555555555g",
            "1111111112222-3333-4444-555555555555",
        ] {
            assert_eq!(EventId::parse(bad), None, "{bad}");
        }
    }
}
