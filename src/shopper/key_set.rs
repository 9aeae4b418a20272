//! The public keys that a provider publishes (RFC 7517), at the URL that its discovery document states (OpenID Connect
//! Discovery 1.0). Only keys that can verify an allowed algorithm are kept.

use std::ops::RangeInclusive;
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::cause::root_cause;
use crate::outgoing::{client, is_plain_loopback, read_limited};
use crate::shopper::provider::ProviderSettings;

/// The timeout of each of the two requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 512 * 1024;
/// The length of an RSA key's modulus, in bits.
const RSA_BITS: RangeInclusive<usize> = 2048..=8192;
/// The length of a P-256 coordinate and of an Ed25519 key, in bytes.
const COORDINATE: usize = 32;
/// The maximum number of keys kept per set. Providers usually publish fewer than ten.
pub(super) const MAX_KEYS: usize = 64;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches a provider's keys. The error is for the log.
pub(super) async fn fetch(provider: &ProviderSettings) -> Result<KeySet, String> {
    // A plain HTTP issuer is allowed only on loopback, or for the demo's own provider on this machine.
    let is_plain = provider.issuer.as_str().starts_with("http:");
    let client = client(provider.issuer.as_str()).timeout(REQUEST_TIMEOUT);
    let client = client.build().map_err(|error| format!("cannot create an HTTP client: {}", root_cause(&error)))?;
    let url = format!("{}/.well-known/openid-configuration", provider.issuer.as_str().trim_end_matches('/'));
    let document = get(&client, &url, "discovery").await?;
    let document = serde_json::from_slice(&document).ok();
    let document = document.filter(|Discovery { issuer, .. }| issuer == provider.issuer.as_str());
    let document = document.ok_or("discovery: not a discovery document with this issuer")?;
    // A demo that is published on an address of this machine serves its own keys there, without TLS.
    let is_own = |url: &Url| Url::parse(&document.issuer).is_ok_and(|issuer| issuer.origin() == url.origin());
    let is_safe = |url: &Url| url.scheme() == "https" || is_plain && (is_plain_loopback(url) || is_own(url));
    let keys_at = Url::parse(&document.jwks_uri).ok().filter(is_safe);
    let keys_at = keys_at.ok_or("discovery: jwks_uri must be an https URL")?;
    let document = get(&client, keys_at.as_str(), "key set").await?;
    let keys = KeySet::read(&document, &provider.algorithms).ok_or("key set: not a JSON Web Key Set")?;
    if keys.counts.kept == 0 { Err("key set: no usable key for the configured algorithms".into()) } else { Ok(keys) }
}

async fn get(client: &Client, url: &str, document_name: &str) -> Result<Vec<u8>, String> {
    let failed = |error: reqwest::Error| format!("{document_name}: {}", root_cause(&error));
    let response = client.get(url).send().await.map_err(failed)?;
    if response.status() != 200 {
        return Err(format!("{document_name}: answered {}", response.status().as_u16()));
    }
    match read_limited(response, MAX_DOCUMENT).await.map_err(failed)? {
        (document, true) => Ok(document),
        (_, false) => Err(format!("{document_name}: is longer than 512 KiB")),
    }
}

/// Keys, each for one algorithm.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    keys: Vec<Key>,
    pub(super) counts: Counts,
}

/// The numbers of published keys that were kept and that were ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Keys that were kept.
    pub(super) kept: usize,
    /// Keys that were ignored: not for signatures, not for an allowed algorithm, too weak or malformed.
    pub(super) rejected: usize,
    /// Keys that were ignored because the set has more than [`MAX_KEYS`] usable ones.
    pub(super) over_limit: usize,
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

/// A published key. Symmetric keys have other members; no provider may publish them.
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
    /// Reads a key set. Keys that are not usable are ignored, and so are all after the first [`MAX_KEYS`]. `None` if
    /// the document is not a key set.
    pub(super) fn read(document: &[u8], allowed: &[Algorithm]) -> Option<Self> {
        let Document { keys } = serde_json::from_slice(document).ok()?;
        let published = keys.len();
        let keys = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let mut keys: Vec<Key> = keys.filter_map(|key| usable(key, allowed)).collect();
        let rejected = published.saturating_sub(keys.len());
        let over_limit = keys.len().saturating_sub(MAX_KEYS);
        keys.truncate(MAX_KEYS);
        let counts = Counts { kept: keys.len(), rejected, over_limit };
        Some(Self { keys, counts })
    }

    /// The keys that may have signed a token. If the token names a key, the keys with that id. If not, the only key for
    /// the algorithm, and none if there are several.
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
}

fn usable(jwk: Jwk, allowed: &[Algorithm]) -> Option<Key> {
    let Jwk { kty, kid, alg, purpose, key_ops, crv, n, e, x, y } = jwk;
    let (algorithm, key) = match (kty.as_str(), crv.as_deref()) {
        ("RSA", _) => (Algorithm::RS256, rsa(&n?, &e?)?),
        ("EC", Some("P-256")) => (Algorithm::ES256, p256(&x?, &y?)?),
        ("OKP", Some("Ed25519")) => (Algorithm::EdDSA, ed25519(&x?)?),
        _ => return None,
    };
    let may_verify = alg.is_none_or(|alg| alg.parse() == Ok(algorithm))
        && purpose.is_none_or(|purpose| purpose == "sig")
        && key_ops.is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
    (may_verify && allowed.contains(&algorithm)).then_some(Key { id: kid, algorithm, key })
}

// Check here that the crypto library accepts the key. Otherwise each token would get `wrong_signature`, and no log line
// would say why.

fn rsa(modulus: &str, exponent: &str) -> Option<DecodingKey> {
    let (n, e) = (integer(modulus)?, integer(exponent)?);
    let bits = n.len().checked_mul(8)?.checked_sub(n.first()?.leading_zeros() as usize)?;
    let components = RsaPublicKeyComponents { n: &n, e: &e };
    let is_valid = RSA_BITS.contains(&bits) && components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).is_ok();
    is_valid.then(|| DecodingKey::from_rsa_raw_components(&n, &e))
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

/// A coordinate in full length. Some libraries leave out leading zeros.
fn coordinate(text: &str) -> Option<[u8; COORDINATE]> {
    let integer = integer(text)?;
    let mut coordinate = [0; COORDINATE];
    coordinate.get_mut(COORDINATE.checked_sub(integer.len())?..)?.copy_from_slice(&integer);
    Some(coordinate)
}

/// An integer without leading zeros, which some libraries add for the sign (RFC 7518, section 6.3.1.1).
fn integer(text: &str) -> Option<Vec<u8>> {
    Some(bytes(text)?.into_iter().skip_while(|byte| *byte == 0).collect())
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
