//! The demo's identity provider, and the endpoints for shoppers and stores.

use crate::trials::{apply, test};
use serde_json::{Value, json};

use crate::checks::*;
use crate::demo::page::ask;
use crate::support::carts::ask_to_sign_in;
use crate::support::shopper::{claims, context, part};
use crate::support::{Server, scan_with_key};

#[apply(test)]
async fn only_known_shoppers_can_sign_in() {
    let server = Server::demo(&[]).await;
    let long = "x".repeat(300);
    for unknown in ["", "unknown", "SHOPPER-UUID-001", "shopper-uuid-001 ", "a\0b", &long] {
        let answer = ask_to_sign_in(&server, &json!({ "shopper": unknown })).await;
        assert_error_form(&answer, 400, unknown);
    }
    for body in [
        json!({}),
        json!([]),
        json!(["shopper-uuid-001"]),
        json!({ "shopper": 5 }),
        json!({ "shopper": null }),
        json!(null),
    ] {
        assert_error_form(&ask_to_sign_in(&server, &body).await, 400, &body.to_string());
    }
    assert_eq!(server.all("customers").await, Vec::<Value>::new(), "no customer is linked");
    let answer = ask_to_sign_in(&server, &json!({ "shopper": "shopper-uuid-001" })).await.json();
    let token = answer["accessToken"].as_str().unwrap();
    assert_eq!(answer, json!({ "tokenType": "Bearer", "accessToken": token, "expiresIn": 3600 }));
    let claims = claims(token);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert_eq!(claims["sub"], "shopper-uuid-001");
    assert_eq!(context(&server, token).await.json()["isAnonymous"], false);
    server.clock.advance(std::time::Duration::from_secs(3600));
    assert_eq!(context(&server, token).await.status, 401, "the token has expired");
    assert_eq!(server.all("customers").await.len(), 1);
}

#[apply(test)]
async fn discovery_leads_to_the_key_that_signed() {
    let server = Server::demo(&[]).await;
    let discovery = ask(&server, "GET", "/demo/.well-known/openid-configuration").await.json();
    let issuer = format!("{}/demo", server.api);
    assert_eq!((&discovery["issuer"], &discovery["jwks_uri"]), (&json!(issuer), &json!(format!("{issuer}/keys"))));
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["EdDSA"]));
    let keys = ask(&server, "GET", "/demo/keys").await.json()["keys"].clone();
    let answer = ask_to_sign_in(&server, &json!({ "shopper": "shopper-uuid-001" })).await.json();
    let token = answer["accessToken"].as_str().unwrap();
    let header = part(token, 0);
    assert_eq!((&header["alg"], &header["kid"]), (&json!("EdDSA"), &keys[0]["kid"]));
    assert_eq!(claims(token)["iss"], issuer);
    let members: Vec<_> = keys[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        (keys.as_array().unwrap().len(), members),
        (1, vec!["alg", "crv", "kid", "kty", "use", "x"]),
        "no secret"
    );
    let other_demo = Server::demo(&[]).await;
    assert_ne!(ask(&other_demo, "GET", "/demo/keys").await.json()["keys"], keys, "each demo has its own keys");
    assert_eq!(context(&other_demo, token).await.status, 401);
}

#[apply(test)]
async fn shoppers_and_stores_are_listed_and_shoppers_flagged() {
    let server = Server::demo(&[]).await;
    let shoppers = ask(&server, "GET", "/demo/shoppers").await.json();
    assert_eq!(shoppers, Value::from(server.all("shoppers").await));
    let stores = ask(&server, "GET", "/demo/stores").await.json();
    assert_eq!(stores, Value::from(server.all("stores").await));
    let defaults = stores.as_array().unwrap().iter().map(|store| store["defaultGateDecision"].as_str().unwrap());
    assert_eq!(defaults.filter(|decision| *decision == "open").count(), 1, "STORE-002");
    for (asked, account) in [("flag", "flagged"), ("flag", "flagged"), ("unflag", "active"), ("unflag", "active")] {
        let answer = ask(&server, "POST", &format!("/demo/shoppers/shopper-uuid-001/{asked}")).await;
        assert_eq!((answer.status, &answer.json()["account"]), (200, &json!(account)));
        let refusal = (asked == "flag").then_some(FLAGGED);
        assert_outcome(&server.verify(&scan_with_key(b"valid_shopper_key")).await, refusal, asked);
    }
    for unknown in ["unknown", "%00", "%FF", "a%2Fb"] {
        for asked in ["flag", "unflag"] {
            let answer = ask(&server, "POST", &format!("/demo/shoppers/{unknown}/{asked}")).await;
            assert!(matches!(answer.status, 400 | 404), "{unknown}: {}", answer.status);
            assert_error_form(&answer, answer.status, unknown);
        }
    }
}
