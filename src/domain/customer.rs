//! Customers of the shopper endpoints: signed in with a provider, or anonymous.
//!
//! The two name spaces are separate: a client may choose its own GUID as an anonymous id, and no provider may name an
//! anonymous customer.

use std::fmt;

use uuid::Uuid;

use super::ids::{Issuer, SubjectId, hyphenated};

/// The customer that a bearer token names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Customer {
    /// A customer who has not signed in.
    Anonymous(AnonymousId),
    /// A customer whom an OpenID provider has authenticated.
    Known {
        /// The provider: the `iss` of its tokens.
        issuer: Issuer,
        /// The provider's id for the customer, unique within the provider.
        subject: SubjectId,
    },
}

impl Customer {
    /// Whether the customer has not signed in.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous(_))
    }
}

/// The id of an anonymous customer, a GUID. It is a secret, since its holder can use the cart: it is shown only to its
/// owner and never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnonymousId(Uuid);

impl AnonymousId {
    /// Reads `8-4-4-4-12` hexadecimal digits, in either case. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        hyphenated(text).map(Self)
    }

    /// The id made from these random bytes.
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The bytes, for hashing.
    pub fn expose_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The text in lower case, for its owner.
    pub fn expose(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for AnonymousId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnonymousId(…)")
    }
}
