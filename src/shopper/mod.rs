//! The shopper's side: authentication of shoppers' apps, customer contexts, carts, and the Scan Key Codes that the apps
//! show. Only the submodule [`http`] has endpoints; `provider` and `key_set` fetch the keys of OpenID providers.
//!
//! ```text
//! anonymous token or provider's token → customer (authenticate) → customer context, bound to this token
//!                                     → carts, Scan Key Codes (codes)
//! ```
//!
//! A token names a [`Customer`]; the directory knows which shopper the customer is, if any.

pub(crate) mod carts;
mod codes;
mod context;
pub(crate) mod http;
mod key_set;
mod provider;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::registry::Registry;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use thiserror::Error;

pub(crate) use codes::{CodeSettings, IssuedCode, NoCode};
pub(crate) use context::{ContextKeys, KEY_LENGTH};
pub(crate) use provider::{Provider, ProviderSettings, is_issuer};
pub(crate) use tokens::{AnonymousTokens, Refusal};

use crate::digest::new_secret;
use crate::directory::{Directory, DirectoryError};
use crate::domain::customer::{AnonymousId, Customer};
use crate::domain::ids::VisitorId;
use crate::observe::metrics::readings;
use crate::shopper::carts::CartStore;
use tokens::Unverified;

/// The reason why a request is not authenticated.
#[derive(Debug)]
pub(crate) enum AuthenticationError {
    /// The credentials are not valid.
    Refused(Refusal),
    /// The provider's keys were never fetched, so its tokens cannot be verified.
    ProviderUnavailable,
    /// The maximum number of requests already waits for the provider's keys.
    TooManyWaiting,
    /// The caller has reached its rate limit: the time until the next request would pass.
    RateLimited(Duration),
}

impl From<Refusal> for AuthenticationError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A failure on the connector's side.
#[derive(Debug, Error)]
pub(crate) enum CommerceError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the operating system gave no random bytes: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error("the current time does not fit a Scan Key Code")]
    Clock,
    /// A cryptographic operation failed, so a token or context could not be made.
    #[error("a cryptographic operation failed")]
    Cryptography,
}

/// A valid bearer token.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    /// The token itself: a customer context is bound to it.
    token: SecretString,
    /// The customer that the token names.
    pub(crate) customer: Customer,
}

impl Bearer {
    /// A hash that distinguishes this token from others and reveals nothing about it.
    pub(crate) fn hash(&self) -> [u8; 16] {
        let hash: [u8; 32] = Sha256::digest(self.token.expose_secret()).into();
        hash.first_chunk().copied().unwrap_or_default()
    }
}

/// The parts of the shopper endpoints.
#[derive(Debug)]
pub(crate) struct Commerce {
    pub directory: Arc<Directory>,
    pub carts: Arc<CartStore>,
    /// The keys with which apps may request anonymous tokens.
    pub authorization_keys: Vec<SecretString>,
    /// Makes and verifies anonymous tokens.
    pub tokens: AnonymousTokens,
    /// The keys that seal customer contexts.
    pub contexts: ContextKeys,
    /// How Scan Key Codes are made; `None` if the retailer has none.
    pub codes: Option<CodeSettings>,
    /// The OpenID providers whose tokens are accepted.
    pub providers: Vec<Arc<Provider>>,
}

impl Commerce {
    /// Adds the metrics of the providers to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        readings! { registry, providers = &self.providers;
            /// Signing keys that the connector has from each identity provider. 0 means that tokens of its customers
            /// cannot be verified and get a 503.
            gauge identity_provider_keys(provider) = providers.iter().map(|of| (&of.settings.name, of.keys()));
            /// Failed attempts to fetch the signing keys of an identity provider. The previous keys stay in use.
            counter identity_provider_failures(provider) =
                providers.iter().map(|of| (&of.settings.name, of.failures()));
        }
    }

    /// Whether this is one of the keys that may request an anonymous token.
    pub(crate) fn is_authorized(&self, key: Option<&[u8]>) -> bool {
        // Hash both sides, so that the time of the comparison does not reveal the length of a valid key.
        let given = Sha256::digest(key.unwrap_or_default());
        let matches_key = |right: &SecretString| given.ct_eq(&Sha256::digest(right.expose_secret()));
        self.authorization_keys.iter().fold(Choice::from(0), |found, right| found | matches_key(right)).into()
    }

    /// Makes an anonymous token with this id, or with a random id if none is given.
    pub(crate) fn anonymous_token(
        &self,
        id: Option<AnonymousId>,
        now: DateTime<Utc>,
    ) -> Result<SecretString, CommerceError> {
        let id = match id {
            Some(id) => id,
            None => {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes)?;
                AnonymousId::from_random_bytes(bytes)
            }
        };
        self.tokens.issue(id, now).ok_or(CommerceError::Cryptography)
    }

    /// The customer that a bearer token names. `count_request` is awaited only if no known key verifies the token,
    /// before the request waits for a fetch of keys. So a client that makes up tokens reaches its rate limit first. The
    /// error of `count_request` is the time until it would succeed.
    pub(crate) async fn authenticate(
        &self,
        token: &str,
        now: DateTime<Utc>,
        count_request: impl Future<Output = Result<(), Duration>>,
    ) -> Result<Bearer, AuthenticationError> {
        let unverified = Unverified::read(token)?;
        let issuer = unverified.text("iss").ok_or(Refusal::UnknownIssuer)?;
        let customer = if issuer == self.tokens.issuer {
            self.tokens.verify(&unverified, now)?
        } else {
            let provider = self.provider(issuer).ok_or(Refusal::UnknownIssuer)?;
            provider.verify(&unverified, now, count_request).await?
        };
        Ok(Bearer { token: token.into(), customer })
    }

    fn provider(&self, issuer: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| provider.settings.issuer.as_str() == issuer)
    }

    /// Makes the customer context for a token. If the customer is new and the provider is configured to create
    /// shoppers, a shopper is created.
    pub(crate) async fn customer_context(
        &self,
        bearer: &Bearer,
        now: DateTime<Utc>,
    ) -> Result<SecretString, CommerceError> {
        if let Customer::Known { issuer, .. } = &bearer.customer
            && self.provider(issuer.as_str()).is_some_and(|provider| provider.settings.creates_shoppers)
            // Look the customer up first: most exist already, and then nothing needs to be written.
            && self.directory.shopper_of(&bearer.customer).await?.is_none()
        {
            self.directory.link_or_create(&bearer.customer, new_shopper_id()?, now).await?;
        }
        let customer = self.directory.hash_key().customer(&bearer.customer);
        let context = self.contexts.seal(&customer, bearer.token.expose_secret());
        context.map(SecretString::from).ok_or(CommerceError::Cryptography)
    }

    /// Checks that the customer context was made for this token.
    pub(crate) fn check_context(&self, bearer: &Bearer, context: Option<&str>) -> Result<(), Refusal> {
        let context = context.ok_or(Refusal::NoContext)?;
        let customer = self.directory.hash_key().customer(&bearer.customer);
        self.contexts.check(context, &customer, bearer.token.expose_secret())
    }
}

/// A random id for a new shopper.
fn new_shopper_id() -> Result<VisitorId, CommerceError> {
    let secret = new_secret()?;
    VisitorId::parse(&format!("shopper-{}", secret.expose_secret())).map_err(|_| CommerceError::Cryptography)
}
