//! Tokens with a header that a provider would not write.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::support::Server;
use crate::support::keys::{Key, base64url, rsa, signed, token_under};
use crate::support::provider::Provider;
use crate::support::shopper::{assert_token_refused, context, with_token};

/// A provider with the key [`rsa`], a connector that trusts it, and the claims of a valid token.
pub(crate) async fn start_with_trusted_provider() -> (Provider, Server, Value) {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200, "a valid token is accepted");
    (provider, server, claims)
}

/// The header of a valid token with these changes.
fn header_with(changes: Value) -> Value {
    let mut header = rsa().header();
    let Value::Object(changes) = changes else { panic!("{changes}") };
    header.as_object_mut().unwrap().extend(changes);
    header
}

#[apply(test)]
async fn valid_token_is_accepted_with_each_allowed_algorithm() {
    let [ec, ed] = [Key::ec("ec"), Key::ed("ed")];
    let keys = [rsa(), &ec, &ed];
    let provider = Provider::start(&keys).await;
    let all = provider.connector(&[("commerce.identity_providers.test.algorithms", "RS256, ES256,EdDSA")]).await;
    let claims = provider.claims(all.clock.now());
    for key in keys {
        let shopper = with_token(&all, &key.token(&claims)).await;
        assert_eq!(shopper.anonymous_id, None, "a known customer");
    }
    for only in keys {
        let name = only.algorithm();
        let server = provider.connector(&[("commerce.identity_providers.test.algorithms", name)]).await;
        let claims = provider.claims(server.clock.now());
        for key in keys {
            let token = key.token(&claims);
            if key.id == only.id {
                assert_eq!(context(&server, &token).await.status, 200, "{name}");
            } else {
                assert_token_refused(&server, &token, "algorithm_not_allowed", name).await;
            }
        }
    }
}

#[apply(test)]
async fn unsigned_token_is_refused() {
    let (_provider, server, claims) = start_with_trusted_provider().await;
    for alg in ["none", "None", "NONE", "nOnE", "", " RS256", "RS256 ", "rs256", "RS256\u{0}"] {
        let header = header_with(json!({ "alg": alg }));
        for token in
            [signed(&header.to_string(), &claims.to_string(), |_| Vec::new()), rsa().token_with(&header, &claims)]
        {
            assert_token_refused(&server, &token, "algorithm_not_allowed", alg).await;
        }
    }
    let stripped = signed(&rsa().header().to_string(), &claims.to_string(), |_| Vec::new());
    assert_token_refused(&server, &stripped, "wrong_signature", "RS256 without a signature").await;
}

#[apply(test)]
async fn public_key_does_not_work_as_a_secret() {
    let (_provider, server, claims) = start_with_trusted_provider().await;
    let (modulus, exponent) = rsa().rsa_parts();
    let pem = rsa().pem();
    let texts = [pem.clone(), pem.trim_end().to_owned(), base64url(&modulus), rsa().jwk().to_string()];
    let secrets = texts.map(String::into_bytes).into_iter().chain([rsa().der(), modulus, exponent, Vec::new()]);
    for secret in secrets {
        for alg in ["HS256", "HS384", "HS512"] {
            let token = token_under(&secret, &header_with(json!({ "alg": alg })), &claims);
            assert_token_refused(&server, &token, "algorithm_not_allowed", alg).await;
        }
        let token = token_under(&secret, &rsa().header(), &claims);
        assert_token_refused(&server, &token, "wrong_signature", "as if it were RS256").await;
    }
}

#[apply(test)]
async fn algorithm_that_is_not_allowed_is_refused() {
    let (_provider, server, claims) = start_with_trusted_provider().await;
    for alg in ["RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA", "HS256", "ES256K", "RSA1_5", "dir"] {
        let token = rsa().token_with(&header_with(json!({ "alg": alg })), &claims);
        assert_token_refused(&server, &token, "algorithm_not_allowed", alg).await;
    }
}

#[apply(test)]
async fn header_with_keys_or_critical_extensions_is_refused() {
    let (provider, server, claims) = start_with_trusted_provider().await;
    let other_key = Key::rsa("rsa");
    let keys_at = provider.url("/keys");
    for (name, value) in [
        ("jku", json!(keys_at)),
        ("jku", json!("https://evil.example/keys")),
        ("jwk", other_key.jwk()),
        ("jwk", json!({})),
        ("x5u", json!(keys_at)),
        ("x5c", json!(["AAAA"])),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("zip", json!("DEF")),
    ] {
        for value in [value, Value::Null] {
            let header = header_with(json!({ name: value }));
            for key in [rsa(), &other_key] {
                let token = key.token_with(&header, &claims);
                assert_token_refused(&server, &token, "token_header_not_allowed", &header.to_string()).await;
            }
        }
    }
    assert_eq!(provider.fetches(), 1, "no token caused a fetch");
    // Unknown members that are not critical are ignored (RFC 7515, section 4).
    let harmless = header_with(json!({ "x5t": "x", "cty": "x", "unknown": { "deep": [1] } }));
    assert_eq!(context(&server, &rsa().token_with(&harmless, &claims)).await.status, 200);
}

#[apply(test)]
async fn token_of_another_type_is_refused() {
    let (_provider, server, claims) = start_with_trusted_provider().await;
    for kind in ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let token = rsa().token_with(&header_with(json!({ "typ": kind })), &claims);
        assert_eq!(context(&server, &token).await.status, 200, "{kind}");
    }
    let mut without = rsa().header();
    without.as_object_mut().unwrap().remove("typ");
    assert_eq!(context(&server, &rsa().token_with(&without, &claims)).await.status, 200, "a token without a type");
    for kind in
        ["logout+jwt", "dpop+jwt", "secevent+jwt", "application/logout+jwt", "JWE", "JOSE", "", "jwt ", "at+jwt;x"]
    {
        let token = rsa().token_with(&header_with(json!({ "typ": kind })), &claims);
        assert_token_refused(&server, &token, "wrong_token_type", kind).await;
    }
}
