//! A signed token in its compact form (RFC 7515, RFC 7519): read, and checked against a key that the token has no say in.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal::Refusal;

/// The longest token that is looked at, in bytes.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

type Claims = serde_json::Map<String, Value>;

/// A token as it came: nothing that it says is known to be true.
pub(super) struct Unverified<'a> {
    /// What is signed: header and claims as they are written.
    message: &'a str,
    signature: &'a str,
    /// By whom it says that it was made.
    pub(super) algorithm: Algorithm,
    /// The name of the key with which.
    pub(super) key_id: Option<String>,
    /// What kind of token it says it is.
    pub(super) kind: Option<String>,
    /// What it says.
    pub(super) claims: Claims,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    // Keys that a token brings along, or the places where to get one: whoever believes these believes anybody.
    #[serde(default, deserialize_with = "is_there")]
    jku: bool,
    #[serde(default, deserialize_with = "is_there")]
    jwk: bool,
    #[serde(default, deserialize_with = "is_there")]
    x5u: bool,
    #[serde(default, deserialize_with = "is_there")]
    x5c: bool,
    // What changes the meaning of the rest, of which nothing is understood here.
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
    #[serde(default, deserialize_with = "is_there")]
    b64: bool,
    #[serde(default, deserialize_with = "is_there")]
    zip: bool,
}

/// Whatever stands there, null included.
fn is_there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

impl<'a> Unverified<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// When it is none, or its header asks for what is never done.
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
        let algorithm = alg.parse().map_err(|_| Refusal::AlgorithmNotAllowed)?; // `none` is no algorithm
        Ok(Self { message, signature, algorithm, key_id: kid, kind: typ, claims: json(claims)? })
    }

    /// The text of a claim.
    pub(super) fn text(&self, claim: &str) -> Option<&str> {
        self.claims.get(claim).and_then(Value::as_str)
    }

    /// Whether this key has signed it, with the algorithm that it names: the caller has seen that it is allowed and is the key's.
    pub(super) fn is_signed_by(&self, key: &DecodingKey) -> bool {
        // Only a signature in Base64 of just one form passes, so that a token cannot be written in two ways.
        crypto::verify(self.signature, self.message.as_bytes(), key, self.algorithm).unwrap_or(false)
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Result<T, Refusal> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::MalformedToken)?;
    // serde_json looks at the bytes of what it keeps alone; JSON is UTF-8 throughout (RFC 7519, section 7.2).
    let text = std::str::from_utf8(&bytes).map_err(|_| Refusal::MalformedToken)?;
    serde_json::from_str(text).map_err(|_| Refusal::MalformedToken)
}

/// The part of a token that these claims or this header make.
pub(super) fn part(json: &impl Serialize) -> Result<String, serde_json::Error> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(json)?))
}

/// What it says is about a person.
impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
