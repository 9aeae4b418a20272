//! Whose the shopper's side is: a customer who has signed in, or one who has not yet.
//!
//! Two name spaces that never meet: an anonymous id may be a GUID that somebody else made up, and no provider is to be able to name
//! an anonymous customer.

use std::fmt;

use uuid::Uuid;

use super::ids::{Issuer, SubjectId, hyphenated};

/// Whom a bearer token names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Customer {
    /// Somebody who has not signed in.
    Anonymous(AnonymousId),
    /// Somebody for whom a provider vouches.
    Known {
        /// The provider, by its own name for itself: the `iss` of its tokens.
        issuer: Issuer,
        /// Its name for the customer, unlike any other of its own.
        subject: SubjectId,
    },
}

impl Customer {
    /// Whether they have not signed in.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous(_))
    }
}

/// The id of an anonymous customer, a GUID. A secret: whoever knows it has the cart, so it is never shown but to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnonymousId(Uuid);

impl AnonymousId {
    /// Reads `8-4-4-4-12` hexadecimal digits, in either case. `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        hyphenated(text).map(Self)
    }

    /// The id that these random bytes make.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// Its bytes, to be hashed.
    #[must_use]
    pub fn expose_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Its text in small letters, for its owner.
    #[must_use]
    pub fn expose(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Debug for AnonymousId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnonymousId(…)")
    }
}
