//! Anonymous tokens: their form and lifetime, and which tokens are refused.

use crate::trials::{apply, test};
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use crate::checks::{assert_json, set, unset};
use crate::support::Server;
use crate::support::keys::token_under;
use crate::support::shopper::{
    ACCEPTED, AUTH_KEY, UNLIMITED, ask_for_token, assert_table, assert_tokens, claims, part,
};

/// A signing key of 32 bytes, also as the setting's value.
pub(crate) const KEY: &[u8] = b"the signing key of these tests!!";
pub(crate) const KEY_BASE64: &str = "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE=";

#[apply(test)]
async fn answer_and_token_have_the_published_form() {
    let server = Server::demo(&[]).await;
    let answer = ask_for_token(&server, Some(AUTH_KEY), "").await;
    let body = answer.json();
    let token = body["accessToken"].as_str().unwrap();
    let wanted = json!({ "tokenType": "Bearer", "accessToken": token, "expiresIn": 7200, "refreshToken": "" });
    assert_json(&answer, 200, &wanted, "the answer");
    assert_eq!(token.split('.').count(), 3);
    assert_eq!(part(token, 0), json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = claims(token);
    let jti = claims["jti"].as_str().unwrap();
    let id: uuid::Uuid = jti.parse().unwrap();
    assert_eq!((id.get_version_num(), id.to_string().as_str()), (4, jti), "a random id in lower case");
    let iat = server.clock.now().timestamp();
    let issuer = "JhooseCommerceApi";
    let wanted = json!({
        "sub": "anonymous", "jti": jti, "iss": issuer, "aud": issuer, "iat": iat, "exp": iat + 7200,
    });
    assert_eq!(claims, wanted);
}

#[apply(test)]
async fn lifetime_issuer_and_audience_are_configurable() {
    for (lifetime, seconds) in [("1m", 60), ("90m", 5400), ("24h", 86_400)] {
        let settings = [
            ("commerce.token_lifetime", lifetime),
            ("commerce.issuer", "https://shop.example.com/ü"),
            ("commerce.audience", "app"),
        ];
        let server = Server::demo(&settings).await;
        let answer = ask_for_token(&server, Some(AUTH_KEY), "").await.json();
        assert_eq!(answer["expiresIn"], seconds);
        let token = answer["accessToken"].as_str().unwrap();
        let claims = claims(token);
        assert_eq!((&claims["iss"], &claims["aud"]), (&json!("https://shop.example.com/ü"), &json!("app")));
        let ends = claims["exp"].as_i64().unwrap();
        assert_eq!(ends - claims["iat"].as_i64().unwrap(), seconds);
        let left = DateTime::from_timestamp(ends, 0).unwrap() - server.clock.now();
        server.clock.advance(left.to_std().unwrap() - Duration::from_nanos(1));
        assert_tokens(&server, [("a nanosecond before its end", token.to_owned(), ACCEPTED)]).await;
        server.clock.advance(Duration::from_nanos(1));
        assert_tokens(&server, [("at its end", token.to_owned(), "token_expired")]).await;
    }
}

/// Another signer with our key, such as an older release, must write tokens in our form.
#[apply(test)]
async fn only_tokens_in_our_own_form_are_accepted_under_our_key() {
    let server = Server::demo(&[&UNLIMITED[..], &[("commerce.signing_keys", KEY_BASE64)]].concat()).await;
    let now = server.clock.now().timestamp();
    let guid = "11111111-2222-3333-4444-555555555555";
    let issuer = "JhooseCommerceApi";
    let claims = json!({ "sub": "anonymous", "jti": guid, "iss": issuer, "aud": issuer, "iat": now, "exp": now + 60 });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    let table = json!({
        ACCEPTED: { "alg": ["HS256"] },
        "algorithm_not_allowed": { "alg": ["HS384", "HS512", "RS256", "hs256", "none"] },
        "wrong_token_type": { "typ": ["at+jwt", "logout+jwt", null] },
        "token_header_not_allowed": { "crit": [["exp"]] },
    });
    let with_header = |name: &str, value: &Value| token_under(KEY, &set(header.clone(), name, value.clone()), &claims);
    assert_table(&server, &table, with_header).await;
    let table = json!({
        ACCEPTED: { "jti": [guid] },
        "unknown_issuer": { "iss": ["jhoosecommerceapi", null] },
        "wrong_audience": { "aud": ["another audience", null] },
        "token_expired": { "exp": [now] },
        "token_not_yet_valid": { "nbf": [now + 3600], "iat": [now + 3600] },
        "sender_constrained_token": { "cnf": [{}] },
        "malformed_token": { "exp": [null] },
        "no_customer": {
            "sub": ["Anonymous", "customer-1", "", ["anonymous"], null],
            "jti": ["", "anonymous", format!("{{{guid}}}"), guid.replace('-', ""), 11, null],
        },
    });
    let with_claim = |name: &str, value: &Value| token_under(KEY, &header, &set(claims.clone(), name, value.clone()));
    assert_table(&server, &table, with_claim).await;
    let signed = token_under(KEY, &header, &claims);
    let rows = [
        ("no type", token_under(KEY, &unset(header.clone(), "typ"), &claims), "wrong_token_type"),
        ("no signature", signed[..=signed.rfind('.').unwrap()].to_owned(), "wrong_signature"),
        ("another key", token_under(b"another key that is not configured", &header, &claims), "wrong_signature"),
        ("an empty key", token_under(b"", &header, &claims), "wrong_signature"),
    ];
    assert_tokens(&server, rows).await;
}
