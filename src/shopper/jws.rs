//! Signed tokens in compact form (RFC 7515, RFC 7519). This module parses a token and checks its signature against a
//! key that the connector has chosen, never one from the token.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::shopper::refusal::Refusal;

/// The longest token that is read, in bytes.
pub(crate) const MAX_TOKEN: usize = 8 * 1024;

type Claims = serde_json::Map<String, Value>;

/// A parsed token whose signature is not verified yet: do not trust its content.
pub(crate) struct Unverified<'a> {
    /// The signed text: header and claims as they were written.
    message: &'a str,
    signature: &'a str,
    /// The algorithm that the token names.
    pub(crate) algorithm: Algorithm,
    /// The id of the key that the token names: `kid`.
    pub(crate) key_id: Option<String>,
    /// The type that the token names: `typ`.
    pub(crate) kind: Option<String>,
    /// The claims.
    pub(crate) claims: Claims,
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
    /// Parses a token.
    ///
    /// # Errors
    /// When the text is not a token, or its header has a member that is never accepted.
    pub(crate) fn read(token: &'a str) -> Result<Self, Refusal> {
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
    pub(crate) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Whether this key has signed the token, with the algorithm that the token names. The caller has checked that the
    /// algorithm is allowed and fits the key.
    pub(crate) fn is_signed_by(&self, key: &DecodingKey) -> bool {
        // The crate accepts only one spelling of a signature in Base64, so that a token has only one valid text.
        crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm).unwrap_or(false)
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::MalformedToken)?;
    // serde_json checks the UTF-8 only of the parts that it keeps, but JSON must be UTF-8 throughout (RFC 7519, section
    // 7.2).
    let text = std::str::from_utf8(&bytes).map_err(|_| Refusal::MalformedToken)?;
    serde_json::from_str(text).map_err(|_| Refusal::MalformedToken)
}

/// Encodes a header or claims as a part of a token.
pub(crate) fn encode_part(json: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(json)?))
}

/// Leaves out the claims, which are personal data.
impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
