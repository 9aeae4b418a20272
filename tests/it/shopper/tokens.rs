//! Anonymous tokens: their form and lifetime, and which tokens are refused.

use crate::trials::{apply, test};
use std::time::Duration;

use serde_json::json;

use crate::support::Server;
use crate::support::checks::assert_json;
use crate::support::keys::token_under;
use crate::support::shopper::{AUTH_KEY, UNLIMITED, ask_for_token, assert_token_refused, claims, context, part, token};

/// A signing key of 32 bytes, also as the setting's value.
const KEY: &[u8] = b"the signing key of these tests!!";
const KEY_BASE64: &str = "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE=";

#[apply(test)]
async fn answer_and_token_have_the_published_form() {
    let server = Server::demo(&[]).await;
    let answer = ask_for_token(&server, Some(AUTH_KEY), "").await;
    let body = answer.json();
    let token = body["accessToken"].as_str().unwrap();
    let wanted = json!({ "tokenType": "Bearer", "accessToken": token, "expiresIn": 7200, "refreshToken": "" });
    assert_json(&answer, 200, &wanted, "the answer");
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(token.split('.').count(), 3);
    assert_eq!(part(token, 0), json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = claims(token);
    let jti = claims["jti"].as_str().unwrap();
    let id: uuid::Uuid = jti.parse().unwrap();
    assert_eq!((id.get_version_num(), id.to_string().as_str()), (4, jti), "a random id in lower case");
    let iat = server.clock.now().timestamp();
    let names = json!({ "sub": "anonymous", "iss": "JhooseCommerceApi", "aud": "JhooseCommerceApi" });
    let mut wanted = names;
    wanted["jti"] = jti.into();
    wanted["iat"] = iat.into();
    wanted["exp"] = (iat + 7200).into();
    assert_eq!(claims, wanted);
}

#[apply(test)]
async fn every_token_gets_a_new_id() {
    let server = Server::demo(&[]).await;
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..20 {
        assert!(ids.insert(claims(&token(&server, &json!({})).await)["jti"].to_string()));
    }
}

#[apply(test)]
async fn token_expires_exactly_at_exp() {
    let server = Server::demo(&[]).await;
    let token = token(&server, &json!({})).await;
    let ends = claims(&token)["exp"].as_i64().unwrap();
    let ends = chrono::DateTime::from_timestamp(ends, 0).unwrap();
    let left = (ends - server.clock.now()).to_std().unwrap();
    server.clock.advance(left - Duration::from_nanos(1));
    assert_eq!(context(&server, &token).await.status, 200, "a nanosecond before");
    server.clock.advance(Duration::from_nanos(1));
    assert_token_refused(&server, &token, "token_expired", "at the time exp").await;
    server.clock.advance(Duration::from_secs(365 * 24 * 60 * 60));
    assert_token_refused(&server, &token, "token_expired", "a year later").await;
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
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), seconds);
        assert_eq!(context(&server, token).await.status, 200);
        server.clock.advance(Duration::from_secs(seconds.unsigned_abs()));
        assert_token_refused(&server, token, "token_expired", lifetime).await;
    }
}

/// Another signer with our key, such as an older release, must write tokens in our form.
#[apply(test)]
async fn only_tokens_in_our_own_form_are_accepted_under_our_key() {
    let server = start_with_known_key().await;
    let good = good_claims(&server);
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    assert_eq!(
        context(&server, &token_under(KEY, &header, &good)).await.status,
        200,
        "a token in our form is accepted"
    );
    for (header, reason) in [
        (json!({ "alg": "HS384", "typ": "JWT" }), "algorithm_not_allowed"),
        (json!({ "alg": "HS512", "typ": "JWT" }), "algorithm_not_allowed"),
        (json!({ "alg": "RS256", "typ": "JWT" }), "algorithm_not_allowed"),
        (json!({ "alg": "hs256", "typ": "JWT" }), "algorithm_not_allowed"),
        (json!({ "alg": "none", "typ": "JWT" }), "algorithm_not_allowed"),
        (json!({ "alg": "HS256" }), "wrong_token_type"),
        (json!({ "alg": "HS256", "typ": "at+jwt" }), "wrong_token_type"),
        (json!({ "alg": "HS256", "typ": "logout+jwt" }), "wrong_token_type"),
        (json!({ "alg": "HS256", "typ": "JWT", "crit": ["exp"] }), "token_header_not_allowed"),
    ] {
        assert_token_refused(&server, &token_under(KEY, &header, &good), reason, &header.to_string()).await;
    }
    let unsigned = token_under(KEY, &header, &good);
    let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
    assert_token_refused(&server, unsigned, "wrong_signature", "no signature").await;
    let foreign_token = token_under(b"another key that is not configured", &header, &good);
    assert_token_refused(&server, &foreign_token, "wrong_signature", "another key").await;
    let empty = token_under(b"", &header, &good);
    assert_token_refused(&server, &empty, "wrong_signature", "an empty key").await;
}

#[apply(test)]
async fn times_and_audience_are_checked() {
    let server = start_with_known_key().await;
    let now = server.clock.now().timestamp();
    for (claim, value, reason) in [
        ("aud", json!("another audience"), "wrong_audience"),
        ("aud", json!(null), "wrong_audience"),
        ("iss", json!("jhoosecommerceapi"), "unknown_issuer"),
        ("iss", json!(null), "unknown_issuer"),
        ("exp", json!(now), "token_expired"),
        ("exp", json!(null), "malformed_token"),
        ("nbf", json!(now + 3600), "token_not_yet_valid"),
        ("iat", json!(now + 3600), "token_not_yet_valid"),
        ("cnf", json!({}), "sender_constrained_token"),
    ] {
        let mut claims = good_claims(&server);
        claims[claim] = value;
        let token = token_under(KEY, &json!({ "alg": "HS256", "typ": "JWT" }), &claims);
        assert_token_refused(&server, &token, reason, &format!("{claim} in {claims}")).await;
    }
}

#[apply(test)]
async fn id_must_be_a_guid() {
    let server = start_with_known_key().await;
    for (claim, value) in [
        ("sub", json!("Anonymous")),
        ("sub", json!("customer-1")),
        ("sub", json!("")),
        ("sub", json!(["anonymous"])),
        ("sub", json!(null)),
        ("jti", json!("")),
        ("jti", json!("anonymous")),
        ("jti", json!("{11111111-2222-3333-4444-555555555555}")),
        ("jti", json!("11111111222233334444555555555555")),
        ("jti", json!(11)),
        ("jti", json!(null)),
    ] {
        let mut claims = good_claims(&server);
        claims[claim] = value;
        let token = token_under(KEY, &json!({ "alg": "HS256", "typ": "JWT" }), &claims);
        assert_token_refused(&server, &token, "no_customer", &claims.to_string()).await;
    }
}

async fn start_with_known_key() -> Server {
    Server::demo(&[&UNLIMITED[..], &[("commerce.signing_keys", KEY_BASE64)]].concat()).await
}

fn good_claims(server: &Server) -> serde_json::Value {
    let now = server.clock.now().timestamp();
    json!({
        "sub": "anonymous",
        "jti": "11111111-2222-3333-4444-555555555555",
        "iss": "JhooseCommerceApi",
        "aud": "JhooseCommerceApi",
        "iat": now,
        "exp": now + 60,
    })
}
