//! The keys that a provider publishes: which are usable, and which of them verifies a token.

use crate::trials::{apply, test};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::checks::{metric, unset};
use crate::support::Server;
use crate::support::keys::{Key, base64url, rsa, token_under};
use crate::support::provider::{Document, Provider};
use crate::support::shopper::{ACCEPTED, assert_tokens};

const UNKNOWN: &str = "unknown_signing_key";

/// A connector that trusts a provider with these keys, valid or not, and the claims of a valid token.
async fn publish(keys: Vec<Value>) -> (Provider, Server, Value) {
    let provider = Provider::start(&[]).await;
    provider.key_set(Document::Json(json!({ "keys": keys })));
    let server = provider.connector(&[("commerce.identity_providers.test.algorithms", "RS256,ES256,EdDSA")]).await;
    let claims = provider.claims(server.clock.now());
    (provider, server, claims)
}

/// The public part of a key with these changes.
fn with_changes(key: &Key, changes: &Value) -> Value {
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    jwk
}

fn coordinates(key: &Key) -> [Vec<u8>; 2] {
    ["x", "y"].map(|name| BASE64_URL_SAFE_NO_PAD.decode(key.jwk()[name].as_str().unwrap()).unwrap())
}

/// A token that names an ignored key is refused like one that names no published key: the reason is not that its
/// signature is wrong.
#[apply(test)]
async fn unusable_keys_are_ignored() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    // Some libraries write a number with a leading zero as its sign, or a coordinate without its leading zeros.
    let padded = |bytes: &[u8], zeros: usize| base64url([&vec![0; zeros], bytes].concat());
    let (modulus, exponent) = rsa().rsa_parts();
    let [x, y] = coordinates(&ec).map(|bytes| padded(&bytes, 1));
    let has_zero = |key: &Key| coordinates(key).iter().any(|coordinate| coordinate[0] == 0);
    let short = std::iter::repeat_with(|| Key::ec("short")).find(has_zero).unwrap();
    let [short_x, short_y] =
        coordinates(&short).map(|bytes| base64url(&bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..]));
    let number = |first: u8, length: usize| base64url([vec![first], vec![0xc1; length - 1]].concat());
    // Changes to a published key, with the outcome of a token that it has signed.
    let of_any = json!({
        ACCEPTED: [{}, { "use": null, "alg": null }, { "key_ops": ["verify"] }, { "key_ops": ["encrypt", "verify"] }],
        UNKNOWN: [
            { "use": "enc" }, { "use": "" }, { "key_ops": ["sign"] }, { "key_ops": [] }, { "alg": "RS512" },
            { "alg": "RSA-OAEP" }, { "alg": "HS256" }, { "alg": "none" }, { "kid": 5 },
        ],
    });
    let of_rsa = json!({
        ACCEPTED: [{ "n": padded(&modulus, 1) }, { "n": padded(&modulus, 3), "e": padded(&exponent, 1) }],
        "wrong_signature": [{ "n": number(0xc1, 256) }], // 2048 bits
        UNKNOWN: [
            { "n": number(0xc1, 128) }, { "n": padded(&[0xc1; 128], 128) }, { "n": number(0xc1, 255) },
            { "n": number(0x7f, 256) }, { "n": number(0xc1, 1025) }, { "n": "" }, { "n": "?" }, { "n": 5 }, { "n": null },
            { "e": "" }, { "e": "AA" },
        ],
    });
    let of_ec = json!({
        ACCEPTED: [{ "x": x, "y": y }],
        UNKNOWN: [
            { "x": ec.jwk()["y"] }, { "x": number(0xc1, 33) }, { "x": "", "y": "" }, { "x": "AA", "y": "AA" },
            { "crv": "P-384" }, { "crv": "secp256k1" },
        ],
    });
    let of_ed = json!({ UNKNOWN: [
        { "x": number(0xc1, 31) }, { "x": number(0, 33) }, { "x": "AA" }, { "crv": "X25519" },
        { "kty": "future", "alg": "ML-DSA-65" },
    ] });
    let of_short = json!({ ACCEPTED: [{ "x": short_x, "y": short_y }] });
    let mut keys = Vec::new();
    for (key, table) in [
        (rsa(), &of_any),
        (&ec, &of_any),
        (&ed, &of_any),
        (rsa(), &of_rsa),
        (&ec, &of_ec),
        (&ed, &of_ed),
        (&short, &of_short),
    ] {
        for (outcome, changes) in table.as_object().unwrap() {
            keys.extend(changes.as_array().unwrap().iter().map(|changes| (key, changes, outcome.as_str())));
        }
    }
    let secret = b"a secret that a provider publishes";
    let symmetric = |alg: &str| json!({ "kty": "oct", "kid": alg, "alg": alg, "use": "sig", "k": base64url(secret) });
    let mut published = vec![json!(null), json!("key"), json!([]), json!({}), symmetric("HS256"), symmetric("RS256")];
    for (index, (key, changes, _)) in keys.iter().enumerate() {
        let mut named = json!({ "kid": format!("key-{index}") });
        named.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        published.push(with_changes(key, &named));
    }
    let (_provider, server, claims) = publish(published).await;
    let rows = keys.iter().enumerate().map(|(index, (key, changes, expected))| {
        let header = json!({ "alg": key.algorithm(), "kid": format!("key-{index}") });
        (format!("{} with {changes}", key.id), key.token_with(&header, &claims), *expected)
    });
    assert_tokens(&server, rows).await;
    let under_secret = [("HS256", "algorithm_not_allowed"), ("RS256", UNKNOWN)].map(|(alg, expected)| {
        (alg, token_under(secret, &json!({ "alg": alg, "typ": "JWT", "kid": alg }), &claims), expected)
    });
    assert_tokens(&server, under_secret).await;
    let kept = keys.iter().filter(|(_, _, expected)| *expected != UNKNOWN).count();
    assert_eq!(metric(&server, "connector_identity_provider_keys{provider=\"test\"}").await, kept as u64);
}

#[apply(test)]
async fn token_is_verified_with_the_key_it_names() {
    let [one, other, twin, other_twin] = ["one", "other", "twin", "twin"].map(Key::ec);
    let [ed, unpublished] = [Key::ed("ed"), Key::rsa("unpublished")];
    let mut keys = [&one, &other, &twin, &other_twin, rsa()].map(Key::jwk).to_vec();
    keys.push(unset(ed.jwk(), "kid"));
    let (_provider, server, claims) = publish(keys).await;
    let without_key_id = |key: &Key| key.token_with(&json!({ "alg": key.algorithm() }), &claims);
    let mut rows = vec![
        ("one".to_owned(), one.token(&claims), ACCEPTED),
        ("other".to_owned(), other.token(&claims), ACCEPTED),
        // Two keys with the same id: either may have signed.
        ("a twin".to_owned(), twin.token(&claims), ACCEPTED),
        ("the other twin".to_owned(), other_twin.token(&claims), ACCEPTED),
        ("the id of the other key".to_owned(), one.token_with(&other.header(), &claims), "wrong_signature"),
        ("no key id, and one key for RS256".to_owned(), without_key_id(rsa()), ACCEPTED),
        ("no key id, and one key without id for EdDSA".to_owned(), without_key_id(&ed), ACCEPTED),
        ("no key id, signed with an unpublished key".to_owned(), without_key_id(&unpublished), "wrong_signature"),
        ("no key id, and several keys for ES256".to_owned(), without_key_id(&one), UNKNOWN),
        ("the id of a key that has none".to_owned(), ed.token(&claims), UNKNOWN),
    ];
    for kid in ["", "One", "two", "../one", "one\u{0}", "' OR 1=1"] {
        rows.push((kid.to_owned(), one.token_with(&json!({ "alg": "ES256", "kid": kid }), &claims), UNKNOWN));
    }
    for (algorithm, kid) in [("RS256", "one"), ("EdDSA", "one"), ("EdDSA", "rsa"), ("ES256", "rsa")] {
        for key in [&one, &ed, rsa()] {
            let token = key.token_with(&json!({ "alg": algorithm, "kid": kid }), &claims);
            rows.push((format!("{algorithm} with {kid}, signed with {}", key.id), token, UNKNOWN));
        }
    }
    assert_tokens(&server, rows).await;
}

#[apply(test)]
async fn only_64_keys_are_kept() {
    let names: Vec<String> = (1..=80).map(|number| format!("key-{number}")).collect();
    let keys = names.iter().map(|name| with_changes(rsa(), &json!({ "kid": name }))).collect();
    let (_provider, server, claims) = publish(keys).await;
    let rows = [(0, ACCEPTED), (63, ACCEPTED), (64, UNKNOWN)].map(|(index, expected)| {
        (&names[index], rsa().token_with(&json!({ "alg": "RS256", "kid": names[index] }), &claims), expected)
    });
    assert_tokens(&server, rows).await;
}
