//! Bearer tokens: signed tokens in compact form (RFC 7515, RFC 7519) from any issuer, and the anonymous tokens that the
//! connector issues itself to customers who have not signed in.
//!
//! A signature is checked against a key that the connector has chosen, never one from the token. The client gets the
//! same 401 for every [`Refusal`]; the log has the reason, but never the credentials.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto, encode};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::customer::{AnonymousId, Customer};

/// The longest token that is read, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// How far the clock of a token's issuer may be ahead of the connector's clock.
const CLOCK_LEEWAY: TimeDelta = TimeDelta::seconds(60);
/// The `sub` of every anonymous token.
const ANONYMOUS: &str = "anonymous";

/// The reason why a bearer token, a customer context or an `X-Auth-Key` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// `X-Auth-Key` is missing or wrong.
    WrongKey,
    /// The bearer token is missing.
    NoToken,
    /// The token is longer than the maximum.
    TokenTooLong,
    /// The token does not consist of three parts in Base64, of which two are JSON objects, or lacks a mandatory claim.
    MalformedToken,
    /// The token's algorithm is `none`, or not allowed for its issuer.
    AlgorithmNotAllowed,
    /// The token's header contains a key or the URL of one, or demands an extension that is not implemented (`crit`).
    HeaderNotAllowed,
    /// The token has another type, such as a proof of possession or a logout token.
    WrongType,
    UnknownIssuer,
    /// The token is for another audience.
    WrongAudience,
    /// The token is valid only with a proof of possession.
    SenderConstrained,
    ExpiredToken,
    /// The token is not valid yet, or states that it was made later than now.
    NotYetValid,
    /// The token has no customer claim, or the claim is not a valid id.
    NoCustomer,
    /// The issuer has no such key.
    UnknownKey,
    WrongSignature,
    /// The customer context is missing.
    NoContext,
    /// The customer context was not made here, or was made for another token.
    WrongContext,
}

impl Refusal {
    /// The stable identifier in the log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::WrongKey => "wrong_auth_key",
            Self::NoToken => "no_token",
            Self::TokenTooLong => "token_too_long",
            Self::MalformedToken => "malformed_token",
            Self::AlgorithmNotAllowed => "algorithm_not_allowed",
            Self::HeaderNotAllowed => "token_header_not_allowed",
            Self::WrongType => "wrong_token_type",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::SenderConstrained => "sender_constrained_token",
            Self::ExpiredToken => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::NoCustomer => "no_customer",
            Self::UnknownKey => "unknown_signing_key",
            Self::WrongSignature => "wrong_signature",
            Self::NoContext => "no_customer_context",
            Self::WrongContext => "wrong_customer_context",
        }
    }
}

/// A parsed token whose signature is not verified yet: do not trust its content.
pub(super) struct Unverified<'a> {
    /// The signed text: header and claims as they were written.
    message: &'a str,
    signature: &'a str,
    /// The algorithm that the token names.
    pub(super) algorithm: Algorithm,
    /// The id of the key that the token names: `kid`.
    pub(super) key_id: Option<String>,
    /// The type that the token names: `typ`.
    pub(super) kind: Option<String>,
    pub(super) claims: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    // Members that contain a key or the URL of one. A token with such a key could be signed by any client.
    #[serde(default, deserialize_with = "is_present")]
    jku: bool,
    #[serde(default, deserialize_with = "is_present")]
    jwk: bool,
    #[serde(default, deserialize_with = "is_present")]
    x5u: bool,
    #[serde(default, deserialize_with = "is_present")]
    x5c: bool,
    // Members that change the meaning of the token in ways that are not implemented here.
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
    #[serde(default, deserialize_with = "is_present")]
    zip: bool,
}

/// True if the member is present, with any value, including null.
fn is_present<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl<'a> Unverified<'a> {
    /// Parses a token. Refuses a header that has a member that is never accepted.
    pub(super) fn read(token: &'a str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN {
            return Err(Refusal::TokenTooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(Refusal::MalformedToken)?;
        let (header, claims) = message.split_once('.').ok_or(Refusal::MalformedToken)?;
        let Header { alg, typ, kid, jku, jwk, x5u, x5c, crit, b64, zip } = json(header)?;
        if [jku, jwk, x5u, x5c, crit, b64, zip].contains(&true) {
            return Err(Refusal::HeaderNotAllowed);
        }
        // The crate does not know the algorithm `none`.
        let algorithm = alg.parse().map_err(|_| Refusal::AlgorithmNotAllowed)?;
        Ok(Self { message, signature, algorithm, key_id: kid, kind: typ, claims: json(claims)? })
    }

    /// The text of a claim.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Whether this key has signed the token, with the algorithm that the token names. The caller has checked that the
    /// algorithm is allowed and fits the key.
    pub(super) fn is_signed_by(&self, key: &DecodingKey) -> bool {
        // The crate accepts only one spelling of a signature in Base64, so that a token has only one valid text.
        crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm).unwrap_or(false)
    }

    /// Checks the claims that every token must have (RFC 7519, section 4.1): the audience, the times, and that the
    /// token needs no proof of possession.
    pub(super) fn check_claims(&self, audiences: &[String], now: DateTime<Utc>) -> Result<(), Refusal> {
        let is_ours = |audience: &Value| {
            audience.as_str().is_some_and(|audience| audiences.iter().any(|accepted| accepted == audience))
        };
        let is_for_us = match self.claims.get("aud") {
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(audience) => is_ours(audience),
            None => false,
        };
        if !is_for_us {
            return Err(Refusal::WrongAudience);
        }
        if self.claims.contains_key("cnf") {
            return Err(Refusal::SenderConstrained);
        }
        let expires_at = self.time_claim("exp")?.ok_or(Refusal::MalformedToken)?;
        if now >= expires_at {
            return Err(Refusal::ExpiredToken);
        }
        let latest_start = now.checked_add_signed(CLOCK_LEEWAY).unwrap_or(now);
        for claim in ["nbf", "iat"] {
            if self.time_claim(claim)?.is_some_and(|starts_at| starts_at > latest_start) {
                return Err(Refusal::NotYetValid);
            }
        }
        Ok(())
    }

    /// A `NumericDate`: seconds since 1970. A fraction is cut off.
    fn time_claim(&self, claim: &str) -> Result<Option<DateTime<Utc>>, Refusal> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let seconds = match value {
            Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(whole_seconds)),
            _ => None,
        };
        let time = seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        time.map(Some).ok_or(Refusal::MalformedToken)
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::MalformedToken)?;
    // serde_json checks the UTF-8 only of the parts that it keeps, but JSON must be UTF-8 throughout (RFC 7519, section
    // 7.2).
    let text = std::str::from_utf8(&bytes).map_err(|_| Refusal::MalformedToken)?;
    serde_json::from_str(text).map_err(|_| Refusal::MalformedToken)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the fraction is cut off on purpose, and values out of range are refused before"
)]
fn whole_seconds(seconds: f64) -> Option<i64> {
    (seconds.is_finite() && seconds.abs() < 1e12).then_some(seconds as i64)
}

/// Issues and verifies anonymous tokens.
#[derive(Clone, Debug)]
pub struct AnonymousTokens {
    /// The `iss` of the tokens.
    pub(super) issuer: String,
    audience: [String; 1],
    /// How long each token is valid.
    pub(super) lifetime: TimeDelta,
    signing: EncodingKey,
    verifying: Vec<DecodingKey>,
}

#[derive(Serialize)]
struct AnonymousClaims<'a> {
    sub: &'static str,
    jti: &'a str,
    iss: &'a str,
    aud: &'a str,
    iat: i64,
    exp: i64,
}

impl AnonymousTokens {
    /// The first of `keys` signs and all verify. `None` if there are no keys.
    pub(crate) fn new(issuer: String, audience: String, lifetime: TimeDelta, keys: &[SecretSlice<u8>]) -> Option<Self> {
        let signing = EncodingKey::from_secret(keys.first()?.expose_secret());
        let verifying = keys.iter().map(|key| DecodingKey::from_secret(key.expose_secret())).collect();
        Some(Self { issuer, audience: [audience], lifetime, signing, verifying })
    }

    /// Issues a token for this customer, made at `now` (cut to the second). `None` only if a cryptographic operation
    /// fails.
    pub(super) fn issue(&self, id: AnonymousId, now: DateTime<Utc>) -> Option<SecretString> {
        let iat = now.timestamp();
        let exp = iat.checked_add(self.lifetime.num_seconds())?;
        let (jti, [aud]) = (Zeroizing::new(id.expose()), &self.audience);
        let claims = AnonymousClaims { sub: ANONYMOUS, jti: &jti, iss: &self.issuer, aud, iat, exp };
        let header = jsonwebtoken::Header::new(Algorithm::HS256);
        encode(&header, &claims, &self.signing).ok().map(SecretString::from)
    }

    /// The customer that a token names.
    pub(super) fn verify(&self, token: &Unverified<'_>, now: DateTime<Utc>) -> Result<Customer, Refusal> {
        if token.algorithm != Algorithm::HS256 {
            return Err(Refusal::AlgorithmNotAllowed);
        }
        if token.kind.as_deref() != Some("JWT") {
            return Err(Refusal::WrongType);
        }
        if !self.verifying.iter().any(|key| token.is_signed_by(key)) {
            return Err(Refusal::WrongSignature);
        }
        token.check_claims(&self.audience, now)?;
        let id = token.text("jti").and_then(AnonymousId::parse).filter(|_| token.text("sub") == Some(ANONYMOUS));
        Ok(Customer::Anonymous(id.ok_or(Refusal::NoCustomer)?))
    }
}
