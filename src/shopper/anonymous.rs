//! Tokens for customers who have not signed in. The connector issues and verifies them; no other service does.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretSlice};
use serde::Serialize;

use crate::domain::customer::{AnonymousId, Customer};
use crate::shopper::claims;
use crate::shopper::jws::{Unverified, encode_part};
use crate::shopper::refusal::Refusal;

/// The `sub` of every anonymous token.
const SUBJECT: &str = "anonymous";

/// Issues and verifies anonymous tokens.
#[derive(Clone)]
pub struct AnonymousTokens {
    issuer: String,
    audience: Vec<String>,
    lifetime: TimeDelta,
    signing: EncodingKey,
    /// The keys that verify; the first belongs to the signing key.
    verifying: Vec<DecodingKey>,
}

#[derive(Serialize)]
struct Header {
    alg: &'static str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'static str,
    jti: &'a str,
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl AnonymousTokens {
    /// The first of `keys` signs and all verify. `None` if there are no keys.
    #[must_use]
    pub fn new(issuer: String, audience: String, lifetime: TimeDelta, keys: &[SecretSlice<u8>]) -> Option<Self> {
        let signing = EncodingKey::from_secret(keys.first()?.expose_secret());
        let verifying = keys.iter().map(|key| DecodingKey::from_secret(key.expose_secret())).collect();
        Some(Self { issuer, audience: vec![audience], lifetime, signing, verifying })
    }

    /// The `iss` of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// How long each token is valid.
    #[must_use]
    pub fn lifetime(&self) -> TimeDelta {
        self.lifetime
    }

    /// Issues a token for this customer, made at `now` (cut to the second). `None` only if a cryptographic operation
    /// fails.
    pub(crate) fn issue(&self, id: AnonymousId, now: DateTime<Utc>) -> Option<String> {
        let iat = now.timestamp();
        let jti = Zeroizing::new(id.expose());
        let claims = Claims {
            sub: SUBJECT,
            jti: &jti,
            iss: &self.issuer,
            aud: self.audience.first()?,
            iat,
            exp: iat.checked_add(self.lifetime.num_seconds())?,
        };
        let message =
            format!("{}.{}", encode_part(&Header { alg: "HS256", typ: "JWT" }).ok()?, encode_part(&claims).ok()?);
        let signature = crypto::sign(message.as_bytes(), &self.signing, Algorithm::HS256).ok()?;
        Some(format!("{message}.{signature}"))
    }

    /// The customer that a token names.
    ///
    /// # Errors
    /// When the token is not valid.
    pub(crate) fn verify(&self, token: &Unverified<'_>, now: DateTime<Utc>) -> Result<Customer, Refusal> {
        if token.algorithm != Algorithm::HS256 {
            return Err(Refusal::AlgorithmNotAllowed);
        }
        if token.kind.as_deref() != Some("JWT") {
            return Err(Refusal::WrongType);
        }
        if !self.verifying.iter().any(|key| token.is_signed_by(key)) {
            return Err(Refusal::WrongSignature);
        }
        claims::check(token, &self.audience, now)?;
        let id = token.text("jti").and_then(AnonymousId::parse).filter(|_| token.text("sub") == Some(SUBJECT));
        Ok(Customer::Anonymous(id.ok_or(Refusal::NoCustomer)?))
    }
}

impl fmt::Debug for AnonymousTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnonymousTokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}
