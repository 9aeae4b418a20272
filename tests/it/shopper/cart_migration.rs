//! Migration of anonymous carts to a customer who signs in.

use crate::trials::{apply, on_every_engine};
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::Engine;
use crate::support::carts::{CARTS, content, content_of, default, signed_in};
use crate::support::keys::rsa;
use crate::support::provider::Provider;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous, anonymous_with_id, with_token};

const GUID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";

/// Migrates an anonymous shopper's carts, which must succeed. Returns the cart of the answer.
pub(crate) async fn migrate(customer: &Shopper, from: &Shopper) -> Value {
    let answer = customer.migrate(from.anonymous_id.as_deref().unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

#[apply(on_every_engine)]
async fn migration_returns_the_merged_cart(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let (customer, guest) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    customer.add("a", 3).await;
    let before = customer.carts().await;
    guest.add("b", 1).await;
    guest.add("a", 2).await;
    guest.add_to("Other", "c", 1).await;
    let moved = guest.open("Other", "US").await;
    let merged = migrate(&customer, &guest).await;
    assert_eq!(content(&merged), [default("a", 5), default("b", 1)]);
    for member in ["id", "name", "customerId", "market", "currency", "totalPrice", "notes"] {
        assert_eq!(merged[member], before[0][member], "{member}");
    }
    assert_eq!(customer.contents().await, [default("a", 5), default("b", 1), content_of("Other", "c", 1)]);
    assert_eq!(customer.carts().await[0], merged);
    assert_eq!(customer.open("Other", "US").await, moved, "a cart that is moved without merging keeps its id");
    assert_eq!(guest.carts().await, json!([]));
}

#[apply(on_every_engine)]
async fn migration_returns_the_default_cart_or_the_last_changed_cart(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let (customer, guest) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    let nothing = migrate(&customer, &guest).await;
    assert_eq!(
        (content(&nothing), &nothing["customerId"]),
        (vec![], &json!("shopper-uuid-001")),
        "an empty cart, since there is none"
    );
    assert_eq!(customer.carts().await, json!([]), "no empty cart is stored");
    guest.add_to("Second", "a", 1).await;
    assert_eq!(migrate(&customer, &guest).await["name"], "Second");
    server.clock.advance(std::time::Duration::from_secs(1));
    customer.add_to("First", "a", 1).await;
    assert_eq!(migrate(&customer, &guest).await["name"], "First", "the cart that was changed last");
    guest.add("a", 1).await;
    server.clock.advance(std::time::Duration::from_secs(1));
    customer.add_to("First", "a", 1).await;
    assert_eq!(migrate(&customer, &guest).await["name"], "Default", "the default cart");
}

#[apply(on_every_engine)]
async fn second_migration_moves_only_new_lines(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let (customer, guest) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    guest.add("a", 2).await;
    let first = migrate(&customer, &guest).await;
    assert_eq!(migrate(&customer, &guest).await, first, "a second migration changes nothing");
    assert_eq!(customer.contents().await, [default("a", 2)]);
    guest.add("a", 1).await;
    guest.add("b", 1).await;
    let upper = guest.anonymous_id.as_ref().unwrap().to_uppercase();
    assert_eq!(customer.migrate(&upper).await.status, 200, "two spellings of one GUID");
    assert_eq!(customer.contents().await, [default("a", 3), default("b", 1)]);
    assert_eq!(guest.contents().await, []);
}

#[apply(on_every_engine)]
async fn migration_without_sign_in_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let [first, second] = [anonymous(&server).await, anonymous(&server).await];
    first.add("a", 1).await;
    for to in [&first, &second] {
        let answer = to.migrate(first.anonymous_id.as_deref().unwrap()).await;
        let body = answer.json();
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains(' '), "the message is a sentence: {body}");
        assert_json(&answer, 403, &json!({ "message": message, "reason": "not_signed_in" }), "an anonymous shopper");
    }
    assert_eq!((first.contents().await, second.contents().await), (vec![default("a", 1)], vec![]));
}

#[apply(on_every_engine)]
async fn invalid_anonymous_id_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let customer = signed_in(&server, "shopper-uuid-001").await;
    let texts = ["", "anonymous", "shopper-uuid-001", &GUID[1..], &format!("{GUID} "), &GUID.replace('-', ""), "\0"];
    let texts = texts.map(|text| json!({ "anonymousId": text }));
    let others =
        [json!({ "anonymousId": 5 }), json!({ "anonymousId": null }), json!({ "anonymousID": GUID }), json!({})];
    for body in texts.into_iter().chain(others).chain([json!([]), json!(GUID), json!([GUID])]) {
        let answer = customer.request(Method::POST, &format!("{CARTS}migrate"), Some(&body)).await;
        assert_error_form(&answer, 400, &body.to_string());
        assert!(!answer.message().unwrap().contains(&GUID[1..20]), "the message does not repeat the id");
    }
    assert_eq!(customer.migrate(&format!("{{{GUID}}}")).await.status, 400, "braces are refused");
}

#[apply(on_every_engine)]
async fn migration_over_the_limits_changes_nothing(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let customer = signed_in(&server, "shopper-uuid-001").await;
    for number in 0..15 {
        customer.open(&number.to_string(), "US").await;
    }
    let guest = anonymous(&server).await;
    guest.add("a", 600).await;
    for number in 10..20 {
        guest.open(&number.to_string(), "US").await;
    }
    let before = [customer.carts().await, guest.carts().await];
    let refused = customer.migrate(guest.anonymous_id.as_ref().unwrap()).await;
    assert_error_form(&refused, 409, "21 carts");
    assert_eq!(refused.message().unwrap(), "there would be more than 20 carts: delete one first");
    assert_eq!([customer.carts().await, guest.carts().await], before, "the anonymous carts stay");
    let first = customer.open("0", "US").await;
    customer.request(Method::DELETE, &format!("{CARTS}{first}"), None).await;
    assert_eq!(migrate(&customer, &guest).await["name"], "Default");
    assert_eq!(customer.carts().await.as_array().unwrap().len(), 20);
}

#[apply(on_every_engine)]
async fn customers_with_the_same_name_have_separate_carts(engine: Engine) {
    let [first, second] = [Provider::start(&[rsa()]).await, Provider::start(&[rsa()]).await];
    let (trusting, issuer) = (first.settings(), second.issuer());
    let trusting = trusting.iter().map(|(name, value)| (*name, value.as_str()));
    let also = [
        ("commerce.identity_providers.second.issuer", issuer.as_str()),
        ("commerce.identity_providers.second.audience", "shop"),
    ];
    let server = engine.demo(&UNLIMITED.into_iter().chain(trusting).chain(also).collect::<Vec<_>>()).await;
    let guest = anonymous_with_id(&server, GUID).await;
    let mut all = vec![guest.clone()];
    for provider in [&first, &second] {
        for subject in [GUID, "anonymous", "shopper-uuid-001"] {
            let claims = set(provider.claims(server.clock.now()), "sub", subject);
            all.push(with_token(&server, &rsa().token(&set(claims, "jti", GUID))).await);
        }
    }
    all.push(signed_in(&server, "shopper-uuid-001").await);
    for (index, shopper) in all.iter().enumerate() {
        assert_eq!(shopper.carts().await, json!([]), "{index}");
        shopper.add(&index.to_string(), 1).await;
    }
    for (index, shopper) in all.iter().enumerate() {
        assert_eq!(shopper.contents().await, [default(&index.to_string(), 1)]);
    }
    // The id in the request is only used as an anonymous id, never as the id of a signed-in customer.
    migrate(&all[2], &guest).await;
    assert_eq!(all[2].contents().await, [default("2", 1), default("0", 1)]);
    assert_eq!(all[1].contents().await, [default("1", 1)]);
}
