//! The public keys that a provider publishes (RFC 7517): only those that are fit to verify what it is allowed to sign with.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The shortest RSA key, in bytes of its modulus: 2048 bits.
const RSA_MODULUS: usize = 256;
/// How many keys are kept of a set: providers have a handful.
const MOST: usize = 64;

/// Keys, each for one algorithm.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

/// A key as it is published. Symmetric ones have other members, and are nobody's to publish.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Reads a set, and passes over whatever in it is not for us. `None` when it is none.
    pub(super) fn read(document: &[u8], allowed: &[Algorithm]) -> Option<Self> {
        let Document { keys } = serde_json::from_slice(document).ok()?;
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Some(Self(keys.filter_map(|key| usable(key, allowed)).take(MOST).collect()))
    }

    /// The keys that a token may mean which names one, or names none: then it must be the only one for its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&DecodingKey> {
        let fitting = self.0.iter().filter(|key| key.algorithm == algorithm);
        match id {
            Some(id) => fitting.filter(|key| key.id.as_deref() == Some(id)).map(|key| &key.key).collect(),
            None => {
                let all: Vec<&DecodingKey> = fitting.map(|key| &key.key).collect();
                if all.len() == 1 { all } else { Vec::new() }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn usable(jwk: Jwk, allowed: &[Algorithm]) -> Option<Key> {
    let Jwk { kty, kid, alg, purpose, key_ops, crv, n, e, x, y } = jwk;
    let (algorithm, key) = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (n?, e?);
            let modulus = BASE64_URL_SAFE_NO_PAD.decode(&n).ok()?;
            let length = modulus.iter().skip_while(|byte| **byte == 0).count();
            let is_long_enough = length >= RSA_MODULUS;
            (Algorithm::RS256, is_long_enough.then(|| DecodingKey::from_rsa_components(&n, &e))?.ok()?)
        }
        ("EC", Some("P-256")) => (Algorithm::ES256, DecodingKey::from_ec_components(&x?, &y?).ok()?),
        ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, DecodingKey::from_ed_components(&x?).ok()?),
        _ => return None,
    };
    let is_meant = alg.is_none_or(|alg| alg.parse() == Ok(algorithm))
        && purpose.is_none_or(|purpose| purpose == "sig")
        && key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    (is_meant && allowed.contains(&algorithm)).then_some(Key { id: kid, algorithm, key })
}
