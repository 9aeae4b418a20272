//! Carts that move to who signs in.

use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::{Value, json};

use crate::checks::*;
use crate::engine::{Engine, on_every_engine, properties};
use crate::support::carts::{CARTS, content, default, of, signed_in};
use crate::support::keys::rsa;
use crate::support::provider::Provider;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous, anonymous_with_id, with_token};

pub(crate) fn trials() -> Vec<Trial> {
    on_every_engine(
        module_path!(),
        properties![
            the_merged_cart_comes_back,
            the_cart_that_comes_back_is_the_foremost,
            only_what_came_since_moves_again,
            who_has_not_signed_in_has_nobody_to_move_to,
            what_is_no_guid_is_refused,
            a_migration_that_would_exceed_the_limits_changes_nothing,
            customers_who_are_called_alike_do_not_meet,
        ],
    )
}

const GUID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";

/// Moves what they have, which must go well; the cart that comes back.
pub(crate) async fn migrate(known: &Shopper, from: &Shopper) -> Value {
    let answer = known.migrate(from.anonymous_id.as_deref().unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

async fn the_merged_cart_comes_back(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let (known, nobody) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    known.add("a", 3).await;
    let before = known.carts().await;
    nobody.add("b", 1).await;
    nobody.add("a", 2).await;
    nobody.add_to("Other", "c", 1).await;
    let moved = nobody.open("Other", "US").await;
    let merged = migrate(&known, &nobody).await;
    assert_eq!(content(&merged), [default("a", 5), default("b", 1)]);
    for member in ["id", "name", "customerId", "market", "currency", "totalPrice", "notes"] {
        assert_eq!(merged[member], before[0][member], "{member}");
    }
    assert_eq!(known.has().await, [default("a", 5), default("b", 1), of("Other", "c", 1)]);
    assert_eq!(known.carts().await[0], merged);
    assert_eq!(known.open("Other", "US").await, moved, "what moves whole keeps its id");
    assert_eq!(nobody.carts().await, json!([]));
}

async fn the_cart_that_comes_back_is_the_foremost(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let (known, nobody) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    let nothing = migrate(&known, &nobody).await;
    assert_eq!((content(&nothing), &nothing["customerId"]), (vec![], &json!("shopper-uuid-001")), "there is none");
    assert_eq!(known.carts().await, json!([]), "and none is kept");
    nobody.add_to("Second", "a", 1).await;
    assert_eq!(migrate(&known, &nobody).await["name"], "Second");
    server.clock.advance(std::time::Duration::from_secs(1));
    known.add_to("First", "a", 1).await;
    assert_eq!(migrate(&known, &nobody).await["name"], "First", "which was changed last");
    nobody.add("a", 1).await;
    server.clock.advance(std::time::Duration::from_secs(1));
    known.add_to("First", "a", 1).await;
    assert_eq!(migrate(&known, &nobody).await["name"], "Default", "which nobody has named");
}

async fn only_what_came_since_moves_again(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let (known, nobody) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    nobody.add("a", 2).await;
    let first = migrate(&known, &nobody).await;
    assert_eq!(migrate(&known, &nobody).await, first, "twice is once");
    assert_eq!(known.has().await, [default("a", 2)]);
    nobody.add("a", 1).await;
    nobody.add("b", 1).await;
    let upper = nobody.anonymous_id.as_ref().unwrap().to_uppercase();
    assert_eq!(known.migrate(&upper).await.status, 200, "two spellings of one GUID");
    assert_eq!(known.has().await, [default("a", 3), default("b", 1)]);
    assert_eq!(nobody.has().await, []);
}

async fn who_has_not_signed_in_has_nobody_to_move_to(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let [one, other] = [anonymous(&server).await, anonymous(&server).await];
    one.add("a", 1).await;
    for to in [&one, &other] {
        let answer = to.migrate(one.anonymous_id.as_deref().unwrap()).await;
        let body = answer.json();
        let message = body["message"].as_str().unwrap_or_default();
        assert!(message.contains(' '), "a sentence: {body}");
        assert_json(&answer, 403, &json!({ "message": message, "reason": "not_signed_in" }), "anonymous");
    }
    assert_eq!((one.has().await, other.has().await), (vec![default("a", 1)], vec![]));
}

async fn what_is_no_guid_is_refused(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let known = signed_in(&server, "shopper-uuid-001").await;
    let texts = ["", "anonymous", "shopper-uuid-001", &GUID[1..], &format!("{GUID} "), &GUID.replace('-', ""), "\0"];
    let texts = texts.map(|text| json!({ "anonymousId": text }));
    let others =
        [json!({ "anonymousId": 5 }), json!({ "anonymousId": null }), json!({ "anonymousID": GUID }), json!({})];
    for body in texts.into_iter().chain(others).chain([json!([]), json!(GUID), json!([GUID])]) {
        let answer = known.request(Method::POST, &format!("{CARTS}migrate"), Some(&body)).await;
        assert_error_form(&answer, 400, &body.to_string());
        assert!(!answer.message().unwrap().contains(&GUID[1..20]), "it is not said again");
    }
    assert_eq!(known.migrate(&format!("{{{GUID}}}")).await.status, 400, "nothing around it");
}

async fn a_migration_that_would_exceed_the_limits_changes_nothing(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let known = signed_in(&server, "shopper-uuid-001").await;
    for number in 0..15 {
        known.open(&number.to_string(), "US").await;
    }
    let nobody = anonymous(&server).await;
    nobody.add("a", 600).await;
    for number in 10..20 {
        nobody.open(&number.to_string(), "US").await;
    }
    let before = [known.carts().await, nobody.carts().await];
    let refused = known.migrate(nobody.anonymous_id.as_ref().unwrap()).await;
    assert_error_form(&refused, 409, "21 carts");
    assert_eq!(refused.message().unwrap(), "there would be more than 20 carts: delete one first");
    assert_eq!([known.carts().await, nobody.carts().await], before, "the anonymous carts stay");
    let first = known.open("0", "US").await;
    known.request(Method::DELETE, &format!("{CARTS}{first}"), None).await;
    assert_eq!(migrate(&known, &nobody).await["name"], "Default");
    assert_eq!(known.carts().await.as_array().unwrap().len(), 20);
}

async fn customers_who_are_called_alike_do_not_meet(engine: Engine) {
    let [first, second] = [Provider::start(&[rsa()]).await, Provider::start(&[rsa()]).await];
    let (trusting, issuer) = (first.settings(), second.issuer());
    let trusting = trusting.iter().map(|(name, value)| (*name, value.as_str()));
    let also = [
        ("commerce.identity_providers.second.issuer", issuer.as_str()),
        ("commerce.identity_providers.second.audience", "shop"),
    ];
    let server = engine.demo(&UNLIMITED.into_iter().chain(trusting).chain(also).collect::<Vec<_>>()).await;
    let nobody = anonymous_with_id(&server, GUID).await;
    let mut all = vec![nobody.clone()];
    for provider in [&first, &second] {
        for subject in [GUID, "anonymous", "shopper-uuid-001"] {
            let claims = set(provider.claims(server.clock.now()), "sub", subject);
            all.push(with_token(&server, &rsa().token(&set(claims, "jti", GUID))).await);
        }
    }
    all.push(signed_in(&server, "shopper-uuid-001").await);
    for (place, shopper) in all.iter().enumerate() {
        assert_eq!(shopper.carts().await, json!([]), "{place}");
        shopper.add(&place.to_string(), 1).await;
    }
    for (place, shopper) in all.iter().enumerate() {
        assert_eq!(shopper.has().await, [default(&place.to_string(), 1)]);
    }
    // What is given is an anonymous id, and never somebody's who has signed in.
    migrate(&all[2], &nobody).await;
    assert_eq!(all[2].has().await, [default("2", 1), default("0", 1)]);
    assert_eq!(all[1].has().await, [default("1", 1)]);
}
