//! The public keys that a provider publishes (RFC 7517): only those that are fit to verify what it is allowed to sign with.

use std::ops::RangeInclusive;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The bits of an RSA key's modulus.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;
/// The bytes of a coordinate of P-256, and of an Ed25519 key.
const COORDINATE: usize = 32;
/// How many keys are kept of a set: providers have a handful.
pub(super) const MOST_KEYS: usize = 64;

/// Keys, each for one algorithm.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    counts: Counts,
}

/// What became of the keys that a provider publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Kept.
    pub(super) kept: usize,
    /// Passed over: not for signatures, not for an algorithm that is allowed, too weak or malformed.
    pub(super) unfit: usize,
    /// Passed over since there are too many.
    pub(super) dropped: usize,
}

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
    /// Reads a set, and passes over whatever in it is not for us, and more than [`MOST_KEYS`] keys. `None` when it is none.
    pub(super) fn read(document: &[u8], allowed: &[Algorithm]) -> Option<Self> {
        let Document { keys } = serde_json::from_slice(document).ok()?;
        let published = keys.len();
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let mut keys: Vec<Key> = keys.filter_map(|key| usable(key, allowed)).collect();
        let unfit = published.saturating_sub(keys.len());
        let dropped = keys.len().saturating_sub(MOST_KEYS);
        keys.truncate(MOST_KEYS);
        let counts = Counts { kept: keys.len(), unfit, dropped };
        Some(Self { keys, counts })
    }

    /// The keys that a token may mean which names one, or names none: then it must be the only one for its algorithm.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&DecodingKey> {
        let fitting = self.keys.iter().filter(|key| key.algorithm == algorithm);
        match id {
            Some(id) => fitting.filter(|key| key.id.as_deref() == Some(id)).map(|key| &key.key).collect(),
            None => {
                let all: Vec<&DecodingKey> = fitting.map(|key| &key.key).collect();
                if all.len() == 1 { all } else { Vec::new() }
            }
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }
}

fn usable(jwk: Jwk, allowed: &[Algorithm]) -> Option<Key> {
    let Jwk { kty, kid, alg, purpose, key_ops, crv, n, e, x, y } = jwk;
    let (algorithm, key) = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => (Algorithm::RS256, rsa(&n?, &e?)?),
        ("EC", Some("P-256")) => (Algorithm::ES256, p256(&x?, &y?)?),
        ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, ed25519(&x?)?),
        _ => return None,
    };
    let is_meant = alg.is_none_or(|alg| alg.parse() == Ok(algorithm))
        && purpose.is_none_or(|purpose| purpose == "sig")
        && key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    (is_meant && allowed.contains(&algorithm)).then_some(Key { id: kid, algorithm, key })
}

// A key that the cryptography refuses is none: else each token gets a wrong_signature, and no line of the log says why.

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let (n, e) = (integer(modulus)?, integer(exponent)?);
    let bits = n.len().checked_mul(8)?.checked_sub(n.first()?.leading_zeros() as usize)?;
    let components = RsaPublicKeyComponents { n: &n, e: &e };
    let is_one = RSA_BITS.contains(&bits) && components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok();
    is_one.then(|| DecodingKey::from_rsa_raw_components(&n, &e))
}

fn p256(x: &str, y: &str) -> Option<DecodingKey> {
    let [x, y] = [coordinate(x)?, coordinate(y)?];
    let point = [&[4], x.as_slice(), y.as_slice()].concat(); // uncompressed
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok()?;
    let [x, y] = [x, y].map(|coordinate| BASE64_URL_SAFE_NO_PAD.encode(coordinate));
    DecodingKey::from_ec_components(&x, &y).ok()
}

fn ed25519(x: &str) -> Option<DecodingKey> {
    (bytes(x)?.len() == COORDINATE).then(|| DecodingKey::from_ed_components(x).ok())?
}

/// A coordinate with all its bytes: some libraries write it as an integer.
fn coordinate(text: &str) -> Option<[u8; COORDINATE]> {
    let integer = integer(text)?;
    let mut coordinate = [0; COORDINATE];
    coordinate.get_mut(COORDINATE.checked_sub(integer.len())?..)?.copy_from_slice(&integer);
    Some(coordinate)
}

/// An integer without zeros in front, which some libraries write as its sign (RFC 7518, section 6.3.1.1).
fn integer(text: &str) -> Option<Vec<u8>> {
    Some(bytes(text)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
