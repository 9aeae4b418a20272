//! The shopper's side: who an app speaks for, what it may be told, and the Scan Key Codes that it shows. Knows no HTTP.
//!
//! ```text
//! anonymous token or a provider's → who is it? (authenticate) → customer context, sealed for that one token
//!                                 → carts, and a code for the gate (codes)
//! ```
//!
//! A token names a [`Customer`]; the directory knows which shopper that is, if it is one.

mod anonymous;
mod claims;
mod codes;
mod context;
mod jws;
mod provider;
mod refusal;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;

pub use anonymous::AnonymousTokens;
pub use codes::{CodeSettings, IssuedCode, NoCode};
pub use context::{ContextKeys, KEY_LENGTH};
pub use provider::{Provider, ProviderSettings, is_issuer};
pub use refusal::Refusal;

use crate::administration::new_secret;
use crate::carts::CartStore;
use crate::directory::{Directory, DirectoryError};
use crate::domain::customer::{AnonymousId, Customer};
use crate::domain::ids::VisitorId;
use jws::Unverified;

/// Why somebody is not known.
#[derive(Debug, Error)]
pub enum AuthenticationError {
    /// What they bring does not hold.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// Their provider's keys were never fetched, so nothing can be said of what they bring.
    #[error("the keys of the identity provider are not there yet")]
    ProviderUnavailable,
    /// Enough requests wait for keys of their provider.
    #[error("too many requests wait for the keys of the identity provider")]
    TooManyWait,
    /// The caller may not ask for so much: how long until the next request would pass.
    #[error("rate limited for {0:?}")]
    RateLimited(Duration),
}

impl From<Refusal> for AuthenticationError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Something of ours failed.
#[derive(Debug, Error)]
pub enum CommerceError {
    /// The directory could not tell or could not be changed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The operating system has no randomness to give.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The time is one that no code can say.
    #[error("no code can say what time it is")]
    Clock,
    /// A token or context could not be made.
    #[error("the cryptography failed")]
    Cryptography,
}

/// A bearer token that holds.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// The token itself: a customer context is bound to it.
    token: SecretString,
    /// Whom it names.
    customer: Customer,
}

impl Bearer {
    /// Whom it names.
    #[must_use]
    pub fn customer(&self) -> &Customer {
        &self.customer
    }

    /// What tells it from other tokens, and nothing about it.
    #[must_use]
    pub fn hash(&self) -> [u8; 16] {
        let hash: [u8; 32] = Sha256::digest(self.token.expose_secret()).into();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// An anonymous token, just made.
#[derive(Debug)]
pub struct AnonymousToken {
    /// The token.
    pub token: SecretString,
    /// How long it holds.
    pub lifetime: TimeDelta,
}

/// What the shopper's side is made of.
#[derive(Debug)]
pub struct Commerce {
    /// Who is known.
    pub directory: Arc<Directory>,
    /// What is in the carts.
    pub carts: Arc<CartStore>,
    /// What an app shows to be given an anonymous token: one of these.
    pub authorization_keys: Vec<SecretString>,
    /// How those are made.
    pub tokens: AnonymousTokens,
    /// Under which customer contexts are sealed.
    pub contexts: ContextKeys,
    /// How codes for the gate are made; `None` where the retailer has no Scan Key Codes.
    pub codes: Option<CodeSettings>,
    /// Who else vouches for customers.
    pub providers: Vec<Arc<Provider>>,
}

impl Commerce {
    /// Whether this is a key that asks for an anonymous token.
    #[must_use]
    pub fn is_authorized(&self, key: Option<&[u8]>) -> bool {
        // Hashed, so that not even the length of a right one is told by the time that this takes.
        let given = Sha256::digest(key.unwrap_or_default());
        let is_it = |right: &SecretString| given.ct_eq(&Sha256::digest(right.expose_secret()));
        self.authorization_keys.iter().fold(Choice::from(0), |found, right| found | is_it(right)).into()
    }

    /// Makes an anonymous token, with that id if one is given.
    ///
    /// # Errors
    /// When something of ours fails.
    pub fn anonymous_token(
        &self,
        id: Option<AnonymousId>,
        now: DateTime<Utc>,
    ) -> Result<AnonymousToken, CommerceError> {
        let id = match id {
            Some(id) => id,
            None => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                AnonymousId::from_random_bytes(bytes)
            }
        };
        let token = self.tokens.issue(id, now).ok_or(CommerceError::Cryptography)?;
        Ok(AnonymousToken { token: token.into(), lifetime: self.tokens.lifetime() })
    }

    /// Finds out whom a bearer token names. `charge` is awaited only if the token names a key that is not known: before anything else is
    /// waited for, so that tokens that anybody can make up are paid for first.
    ///
    /// # Errors
    /// When it does not hold, that cannot be known yet, or `charge` fails: with the time after which it would not.
    pub async fn authenticate(
        &self,
        token: &str,
        now: DateTime<Utc>,
        charge: impl Future<Output = Result<(), Duration>>,
    ) -> Result<Bearer, AuthenticationError> {
        let unverified = Unverified::read(token)?;
        let issuer = unverified.text("iss").ok_or(Refusal::UnknownIssuer)?;
        let customer = if issuer == self.tokens.issuer() {
            self.tokens.verify(&unverified, now)?
        } else {
            let provider = self.providers.iter().find(|provider| provider.settings().issuer.as_str() == issuer);
            provider.ok_or(Refusal::UnknownIssuer)?.verify(&unverified, now, charge).await?
        };
        Ok(Bearer { token: token.into(), customer })
    }

    /// Makes the customer context that goes with a token. A customer who was never seen before, and whose provider is to create
    /// shoppers, is one afterwards.
    ///
    /// # Errors
    /// When something of ours fails.
    pub async fn customer_context(&self, bearer: &Bearer, now: DateTime<Utc>) -> Result<SecretString, CommerceError> {
        if let Customer::Known { issuer, .. } = &bearer.customer
            && self
                .providers
                .iter()
                .any(|provider| provider.settings().creates_shoppers && provider.settings().issuer == *issuer)
        {
            // Looked up first: most have been here before, and nothing has to be written for them.
            if self.directory.shopper_of(&bearer.customer).await?.is_none() {
                self.directory.link_or_create(&bearer.customer, new_shopper()?, now).await?;
            }
        }
        let customer = self.directory.hash_key().customer(&bearer.customer);
        let context = self.contexts.seal(&customer, bearer.token.expose_secret());
        context.map(SecretString::from).ok_or(CommerceError::Cryptography)
    }

    /// Checks the customer context that comes with a token.
    ///
    /// # Errors
    /// When it was not made for that token.
    pub fn check_context(&self, bearer: &Bearer, context: Option<&str>) -> Result<(), Refusal> {
        let context = context.ok_or(Refusal::NoContext)?;
        let customer = self.directory.hash_key().customer(&bearer.customer);
        self.contexts.check(context, &customer, bearer.token.expose_secret())
    }
}

/// A name for a shopper whom nobody has named yet.
fn new_shopper() -> Result<VisitorId, CommerceError> {
    let secret = new_secret()?;
    VisitorId::parse(&format!("shopper-{}", secret.expose_secret())).map_err(|_| CommerceError::Cryptography)
}
