//! The demo's OpenID Connect provider. It signs a token for any demo shopper, without a password. Its key is created at
//! the start. The connector fetches the public key over HTTP, like the keys of any provider.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::SecretString;
use serde_json::{Value, json};
use thiserror::Error;

use crate::domain::customer::Customer;
use crate::domain::ids::{Issuer, SubjectId, VisitorId};
use crate::shopper::ProviderSettings;

/// The audience of its tokens.
const AUDIENCE: &str = "identity-connector-demo";
const KEY_ID: &str = "demo";
/// How long a token is valid.
pub(crate) const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// The provider cannot create a key or sign a token.
#[derive(Clone, Copy, Debug, Error)]
#[error("the demo's identity provider cannot create a key or a token")]
pub struct DemoIssuerError;

/// Signs tokens for demo shoppers.
#[derive(Debug)]
pub(crate) struct DemoIssuer {
    issuer: Issuer,
    signing: EncodingKey,
    public: Vec<u8>,
}

impl DemoIssuer {
    /// A provider with a new key. `issuer` is its base URL.
    pub(crate) fn new(issuer: Issuer) -> Result<Self, DemoIssuerError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| DemoIssuerError)?;
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| DemoIssuerError)?;
        let public = pair.public_key().as_ref().to_vec();
        Ok(Self { issuer, signing: EncodingKey::from_ed_der(document.as_ref()), public })
    }

    /// The settings with which the connector accepts tokens of this provider.
    pub(crate) fn settings(&self) -> ProviderSettings {
        ProviderSettings {
            name: "demo".to_owned(),
            issuer: self.issuer.clone(),
            audiences: vec![AUDIENCE.to_owned()],
            algorithms: vec![Algorithm::EdDSA],
            customer_claim: "sub".to_owned(),
            creates_shoppers: false,
        }
    }

    /// The customer of a shopper. The subject is the shopper's id.
    pub(crate) fn customer(&self, shopper: &VisitorId) -> Option<Customer> {
        let subject = SubjectId::parse(shopper.as_str()).ok()?;
        Some(Customer::Known { issuer: self.issuer.clone(), subject })
    }

    /// A token for a shopper.
    pub(crate) fn token_for(&self, shopper: &VisitorId, now: DateTime<Utc>) -> Result<SecretString, DemoIssuerError> {
        let iat = now.timestamp();
        let exp = iat.saturating_add(LIFETIME.num_seconds());
        let (iss, sub) = (self.issuer.as_str(), shopper.as_str());
        let claims = json!({ "iss": iss, "aud": AUDIENCE, "sub": sub, "iat": iat, "exp": exp });
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &claims, &self.signing).map(Into::into).map_err(|_| DemoIssuerError)
    }

    /// The discovery document (OpenID Connect Discovery 1.0).
    pub(crate) fn discovery(&self) -> Value {
        let issuer = self.issuer.as_str();
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/keys"),
            "id_token_signing_alg_values_supported": ["EdDSA"],
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
        })
    }

    /// The public key (RFC 8037).
    pub(crate) fn key_set(&self) -> Value {
        let x = BASE64_URL_SAFE_NO_PAD.encode(&self.public);
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": KEY_ID, "x": x }] })
    }
}
