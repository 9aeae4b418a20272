//! Published keys that are not usable, and the choice of the key for a token.

use crate::trials::{apply, test};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::shopper::key_rotation::assert_unavailable;
use crate::support::Server;
use crate::support::keys::{Key, base64url, rsa, token_under};
use crate::support::provider::{Document, Provider};
use crate::support::shopper::{assert_token_refused, context};

/// The bytes of the modulus of RSA keys of 1024 and 2040 bits.
const SHORT: [usize; 2] = [128, 255];

/// A provider that publishes these keys, valid or not, and a connector that trusts it.
async fn start_with_published_keys(keys: Vec<Value>) -> (Provider, Server) {
    let provider = Provider::not_started();
    provider.key_set(Document::Json(json!({ "keys": keys })));
    provider.resume().await;
    let server = provider.connector(&[("commerce.identity_providers.test.algorithms", "RS256,ES256,EdDSA")]).await;
    (provider, server)
}

/// The public part of a key with these changes.
fn key_with_changes(key: &Key, changes: Value) -> Value {
    let mut jwk = key.jwk();
    let Value::Object(changes) = changes else { panic!("{changes}") };
    jwk.as_object_mut().unwrap().extend(changes);
    jwk
}

fn key_without_member(key: &Key, member: &str) -> Value {
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().remove(member);
    jwk
}

#[apply(test)]
async fn published_symmetric_key_is_ignored() {
    let secret = b"a secret that a provider publishes";
    let oct = json!({ "kty": "oct", "kid": "oct", "alg": "HS256", "k": base64url(secret) });
    let disguised = json!({ "kty": "oct", "kid": "rsa2", "alg": "RS256", "use": "sig", "k": base64url(secret) });
    let (provider, server) = start_with_published_keys(vec![oct, disguised, rsa().jwk()]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200);
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": "oct" });
    assert_token_refused(&server, &token_under(secret, &header, &claims), "algorithm_not_allowed", "HS256").await;
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "rsa2" });
    assert_token_refused(&server, &token_under(secret, &header, &claims), "unknown_signing_key", "RS256").await;
}

#[apply(test)]
async fn short_rsa_key_is_ignored() {
    let short =
        |length: usize| json!({ "kty": "RSA", "kid": "short", "n": base64url(vec![0xc1; length]), "e": "AQAB" });
    let padded =
        json!({ "kty": "RSA", "kid": "short", "n": base64url([vec![0; 128], vec![0xc1; 128]].concat()), "e": "AQAB" });
    for weak in SHORT.map(short).into_iter().chain([padded]) {
        let (provider, server) = start_with_published_keys(vec![weak.clone(), rsa().jwk()]).await;
        let claims = provider.claims(server.clock.now());
        let token = rsa().token_with(&json!({ "alg": "RS256", "kid": "short" }), &claims);
        // The reason shows that the key was ignored, not that the signature was wrong.
        assert_token_refused(&server, &token, "unknown_signing_key", &weak.to_string()).await;
        assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200, "the valid key is accepted");
    }
    let (provider, server) = start_with_published_keys(vec![short(256)]).await;
    let token = rsa().token_with(&json!({ "alg": "RS256", "kid": "short" }), &provider.claims(server.clock.now()));
    assert_token_refused(&server, &token, "wrong_signature", "2048 bits").await;
}

#[apply(test)]
async fn key_for_another_purpose_is_ignored() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    for key in [rsa(), &ec, &ed] {
        for (changes, is_kept) in [
            (json!({}), true),
            (json!({ "use": null, "alg": null }), true),
            (json!({ "key_ops": ["verify"] }), true),
            (json!({ "key_ops": ["encrypt", "verify"] }), true),
            (json!({ "use": "enc" }), false),
            (json!({ "use": "" }), false),
            (json!({ "key_ops": ["sign"] }), false),
            (json!({ "key_ops": [] }), false),
            (json!({ "alg": "RS512" }), false),
            (json!({ "alg": "RSA-OAEP" }), false),
            (json!({ "alg": "HS256" }), false),
            (json!({ "alg": "none" }), false),
            (json!({ "kid": 5 }), false),
        ] {
            let spare = Key::ec("spare");
            let jwk = key_with_changes(key, changes);
            let (provider, server) = start_with_published_keys(vec![jwk.clone(), spare.jwk()]).await;
            let token = key.token(&provider.claims(server.clock.now()));
            if is_kept {
                assert_eq!(context(&server, &token).await.status, 200, "{jwk}");
            } else {
                assert_token_refused(&server, &token, "unknown_signing_key", &jwk.to_string()).await;
            }
        }
    }
}

#[apply(test)]
async fn malformed_key_does_not_affect_the_others() {
    let ec = Key::ec("ec");
    let strange = vec![
        json!(null),
        json!("key"),
        json!([]),
        json!({}),
        json!({ "kty": "RSA" }),
        json!({ "kty": "RSA", "n": "?", "e": "AQAB" }),
        json!({ "kty": "RSA", "n": base64url(vec![0xc1; 256]), "e": "" }),
        json!({ "kty": "RSA", "n": 5, "e": "AQAB" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
        key_with_changes(&ec, json!({ "crv": "P-384" })),
        key_with_changes(&ec, json!({ "crv": "secp256k1" })),
        json!({ "kty": "OKP", "crv": "X25519", "x": base64url([1; 32]) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA" }),
        json!({ "kty": "future", "alg": "ML-DSA-65" }),
    ];
    let keys = strange.into_iter().chain([rsa().jwk()]).collect();
    let (provider, server) = start_with_published_keys(keys).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200);
    assert_token_refused(&server, &ec.token(&claims), "unknown_signing_key", "a key of another curve").await;
    let header = json!({ "alg": "EdDSA", "kid": "rsa" });
    assert_token_refused(&server, &rsa().token_with(&header, &claims), "unknown_signing_key", "EdDSA").await;
}

/// Some libraries write a number with a leading zero as its sign, or a coordinate without its leading zeros.
#[apply(test)]
async fn leading_zeros_of_a_number_are_ignored() {
    let (modulus, exponent) = rsa().rsa_parts();
    let padded = |bytes: &[u8], zeros: usize| base64url([&vec![0; zeros], bytes].concat());
    let short = loop {
        let key = Key::ec("short");
        if coordinates(&key).iter().any(|coordinate| coordinate[0] == 0) {
            break key;
        }
    };
    let stripped =
        coordinates(&short).map(|bytes| base64url(&bytes[bytes.iter().position(|byte| *byte != 0).unwrap()..]));
    let ec = Key::ec("ec");
    let [x, y] = coordinates(&ec).map(|bytes| padded(&bytes, 1));
    for (key, changes) in [
        (rsa(), json!({ "n": padded(&modulus, 1) })),
        (rsa(), json!({ "n": padded(&modulus, 3), "e": padded(&exponent, 1) })),
        (&ec, json!({ "x": x, "y": y })),
        (&short, json!({ "x": stripped[0], "y": stripped[1] })),
    ] {
        let (provider, server) = start_with_published_keys(vec![key_with_changes(key, changes.clone())]).await;
        let token = key.token(&provider.claims(server.clock.now()));
        assert_eq!(context(&server, &token).await.status, 200, "{changes}");
    }
}

fn coordinates(key: &Key) -> [Vec<u8>; 2] {
    ["x", "y"].map(|name| BASE64_URL_SAFE_NO_PAD.decode(key.jwk()[name].as_str().unwrap()).unwrap())
}

/// The reason must be the same as for an unknown key, not that of a wrong signature.
#[apply(test)]
async fn unusable_key_is_ignored() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    let number = |first: u8, length: usize| base64url([vec![first], vec![0xc1; length - 1]].concat());
    for (key, changes) in [
        (rsa(), json!({ "n": number(0x7f, 256) })),
        (rsa(), json!({ "n": number(0xc1, 1025) })),
        (rsa(), json!({ "n": "" })),
        (rsa(), json!({ "e": "" })),
        (rsa(), json!({ "e": "AA" })),
        (&ec, json!({ "x": ec.jwk()["y"] })),
        (&ec, json!({ "x": number(0xc1, 33) })),
        (&ec, json!({ "x": "", "y": "" })),
        (&ed, json!({ "x": number(0xc1, 31) })),
        (&ed, json!({ "x": number(0, 33) })),
    ] {
        let (provider, server) =
            start_with_published_keys(vec![key_with_changes(key, changes.clone()), Key::ec("spare").jwk()]).await;
        let token = key.token(&provider.claims(server.clock.now()));
        assert_token_refused(&server, &token, "unknown_signing_key", &changes.to_string()).await;
    }
}

#[apply(test)]
async fn token_is_verified_with_the_key_it_names() {
    let [first_key, second_key] = [Key::ec("one"), Key::ec("other")];
    let (provider, server) = start_with_published_keys(vec![first_key.jwk(), second_key.jwk()]).await;
    let claims = provider.claims(server.clock.now());
    for key in [&first_key, &second_key] {
        assert_eq!(context(&server, &key.token(&claims)).await.status, 200, "{}", key.id);
    }
    let swapped = first_key.token_with(&second_key.header(), &claims);
    assert_token_refused(&server, &swapped, "wrong_signature", "the id of the other key").await;
    for kid in ["", "One", "two", "../one", "one\u{0}", "' OR 1=1"] {
        let token = first_key.token_with(&json!({ "alg": "ES256", "kid": kid }), &claims);
        assert_token_refused(&server, &token, "unknown_signing_key", kid).await;
    }
    // Two keys with the same id: either may have signed.
    let [twin, other_twin] = [Key::ec("twin"), Key::ec("twin")];
    let (provider, server) = start_with_published_keys(vec![twin.jwk(), other_twin.jwk()]).await;
    let claims = provider.claims(server.clock.now());
    for key in [&twin, &other_twin] {
        assert_eq!(context(&server, &key.token(&claims)).await.status, 200);
    }
}

#[apply(test)]
async fn token_without_key_id_needs_a_single_key() {
    let [first_key, second_key] = [Key::ec("one"), Key::ec("other")];
    let token_without_key_id = |key: &Key, claims: &Value| key.token_with(&json!({ "alg": key.algorithm() }), claims);
    for keys in [vec![first_key.jwk()], vec![first_key.jwk(), rsa().jwk()], vec![key_without_member(&first_key, "kid")]]
    {
        let (provider, server) = start_with_published_keys(keys).await;
        let claims = provider.claims(server.clock.now());
        assert_eq!(
            context(&server, &token_without_key_id(&first_key, &claims)).await.status,
            200,
            "the only key for its algorithm"
        );
        assert_token_refused(
            &server,
            &token_without_key_id(&second_key, &claims),
            "wrong_signature",
            "signed with an unpublished key",
        )
        .await;
    }
    let (provider, server) = start_with_published_keys(vec![first_key.jwk(), second_key.jwk()]).await;
    let claims = provider.claims(server.clock.now());
    for key in [&first_key, &second_key] {
        assert_token_refused(
            &server,
            &token_without_key_id(key, &claims),
            "unknown_signing_key",
            "two keys for this algorithm",
        )
        .await;
    }
}

#[apply(test)]
async fn key_is_used_only_with_its_own_algorithm() {
    let [ec, ed] = [Key::ec("key"), Key::ed("key")];
    let (provider, server) = start_with_published_keys(vec![ec.jwk()]).await;
    let claims = provider.claims(server.clock.now());
    for algorithm in ["RS256", "EdDSA"] {
        for key in [&ec, &ed] {
            let token = key.token_with(&json!({ "alg": algorithm, "kid": "key" }), &claims);
            assert_token_refused(&server, &token, "unknown_signing_key", algorithm).await;
        }
    }
}

#[apply(test)]
async fn keys_for_algorithms_that_are_not_allowed_are_ignored() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    let provider = Provider::start(&[&ec, &ed]).await;
    let server = provider.connector(&[]).await;
    let token = rsa().token(&provider.claims(server.clock.now()));
    assert_unavailable(&context(&server, &token).await);
}

#[apply(test)]
async fn only_64_keys_are_kept() {
    let names: Vec<String> = (1..=80).map(|number| format!("key-{number}")).collect();
    let keys = names.iter().map(|name| key_with_changes(rsa(), json!({ "kid": name }))).collect();
    let (provider, server) = start_with_published_keys(keys).await;
    let claims = provider.claims(server.clock.now());
    let named = |name: &str| rsa().token_with(&json!({ "alg": "RS256", "kid": name }), &claims);
    for name in [&names[0], &names[63]] {
        assert_eq!(context(&server, &named(name)).await.status, 200, "{name}");
    }
    assert_token_refused(&server, &named(&names[64]), "unknown_signing_key", "the 65th key").await;
}
