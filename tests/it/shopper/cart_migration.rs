//! Migration of anonymous carts to a customer who signs in. `carts.rs` tests what is stored.

use crate::trials::{apply, on_postgres, test};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::Engine;
use crate::support::Server;
use crate::support::carts::{CARTS, content, content_of, default, signed_in};
use crate::support::keys::rsa;
use crate::support::provider::Provider;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous, anonymous_with_id, with_token};

const GUID: &str = "0f0e0d0c-1111-2222-3333-44445555abcd";

/// Migrates an anonymous shopper's carts, which must succeed. Returns the cart of the answer.
async fn migrate(customer: &Shopper, from: &Shopper) -> Value {
    let answer = customer.migrate(from.anonymous_id.as_deref().unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

#[apply(test)]
async fn migration_returns_the_merged_cart() {
    let server = Server::demo(&UNLIMITED).await;
    let (customer, guest) = (signed_in(&server, "shopper-uuid-001").await, anonymous(&server).await);
    customer.add("a", 3).await;
    let before = customer.carts().await;
    guest.add("b", 1).await;
    guest.add("a", 2).await;
    guest.add_to("Other", "c", 1).await;
    let moved = guest.open("Other", "US").await;
    let upper = guest.anonymous_id.as_ref().unwrap().to_uppercase();
    let body = json!({ "anonymousId": upper });
    let answer = customer.request(Method::POST, &format!("{CARTS}migrate/"), Some(&body)).await;
    let merged = answer.json();
    assert_eq!(content(&merged), [default("a", 5), default("b", 1)]);
    for member in ["id", "name", "customerId", "market", "currency", "totalPrice", "notes"] {
        assert_eq!(merged[member], before[0][member], "{member}");
    }
    assert_eq!(customer.contents().await, [default("a", 5), default("b", 1), content_of("Other", "c", 1)]);
    assert_eq!(customer.carts().await[0], merged);
    assert_eq!(customer.open("Other", "US").await, moved, "a cart that is moved without merging keeps its id");
    assert_eq!(guest.carts().await, json!([]));
    assert_eq!(migrate(&customer, &guest).await, merged, "a second migration changes nothing");
}

#[apply(test)]
async fn migration_returns_the_default_cart_or_the_last_changed_cart() {
    let server = Server::demo(&UNLIMITED).await;
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

#[apply(test)]
async fn migration_without_sign_in_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let [first, second] = [anonymous(&server).await, anonymous(&server).await];
    first.add("a", 1).await;
    for to in [&first, &second] {
        let answer = to.migrate(first.anonymous_id.as_deref().unwrap()).await;
        let message = "Sign in first: carts move to a signed-in customer";
        assert_json(&answer, 403, &json!({ "message": message, "reason": "not_signed_in" }), "an anonymous shopper");
    }
    assert_eq!((first.contents().await, second.contents().await), (vec![default("a", 1)], vec![]));
}

#[apply(test)]
async fn invalid_anonymous_id_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
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

#[apply(test)]
async fn customers_with_the_same_name_have_separate_carts() {
    let [first, second] = [Provider::start(&[rsa()]).await, Provider::start(&[rsa()]).await];
    let (trusting, issuer) = (first.settings(), second.issuer());
    let trusting = trusting.iter().map(|(name, value)| (*name, value.as_str()));
    let also = [
        ("commerce.identity_providers.second.issuer", issuer.as_str()),
        ("commerce.identity_providers.second.audience", "shop"),
    ];
    let server = Server::demo(&UNLIMITED.into_iter().chain(trusting).chain(also).collect::<Vec<_>>()).await;
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

/// A token from one connector is accepted by the other.
#[apply(on_postgres)]
async fn simultaneous_migrations_at_two_connectors_move_each_line_once(engine: Engine) {
    let provider = Provider::start(&[rsa()]).await;
    let trusting = provider.settings();
    let trusting = trusting.iter().map(|(name, value)| (*name, value.as_str()));
    let keys = [base64([1; 32]), base64([2; 32])];
    let keys = [("commerce.signing_keys", keys[0].as_str()), ("commerce.context_keys", keys[1].as_str())];
    let settings: Vec<_> = UNLIMITED.into_iter().chain(trusting).chain(keys).collect();
    let first = engine.demo(&settings).await;
    let second = first.replica().await;
    let token = rsa().token(&provider.claims(first.clock.now()));
    let customers = [with_token(&first, &token).await, with_token(&second, &token).await];
    for round in 0..3 {
        assert_each_line_moves_once([&first, &second], &customers, round).await;
    }
    let mut moving = JoinSet::new();
    for number in 0..16 {
        let (guest, customer) = (anonymous(&first).await, customers[number % 2].clone());
        guest.clone().at(&second).add(&format!("of {number:02}"), 1).await;
        moving.spawn(async move { migrate(&customer, &guest).await });
    }
    moving.join_all().await;
    let mut has = customers[0].contents().await;
    assert_eq!(customers[1].contents().await, has);
    has.retain(|(_, _, sku, _)| sku.starts_with("of "));
    has.sort();
    assert_eq!(has, (0..16).map(|number| default(&format!("of {number:02}"), 1)).collect::<Vec<_>>());
}

/// Adds lines and migrates the cart at the same time, at both connectors. Every line must arrive once.
async fn assert_each_line_moves_once(servers: [&Server; 2], customers: &[Shopper; 2], round: usize) {
    let (id, shared) = (new_id(), format!("shared {round}"));
    let guests = [anonymous_with_id(servers[0], &id).await, anonymous_with_id(servers[1], &id).await];
    guests[0].add(&shared, 50).await;
    let mut working = JoinSet::new();
    for number in 0..20 {
        let (guest, customer) = (guests[number % 2].clone(), customers[number % 2].clone());
        let lines = json!([{ "sku": shared, "qty": 1 }, { "sku": format!("{round} {number}"), "qty": 1 }]);
        working.spawn(async move {
            if number % 5 == 4 {
                migrate(&customer, &guest).await;
                return 0;
            }
            let cart = guest.open("Default", "US").await;
            let added = guest.lines(Method::POST, cart, &lines).await;
            // On a busy machine the request may time out: then the lines may have been added or not.
            assert!(matches!(added.status, 200 | 404 | 500), "added, or the cart has been migrated: {}", added.json());
            u64::from(added.status == 200)
        });
    }
    let added: u64 = working.join_all().await.into_iter().sum();
    assert_eq!(customers[0].migrate(&id).await.status, 200);
    assert_eq!(guests[0].contents().await, []);
    let contents = customers[0].contents().await;
    let own = contents.iter().filter(|(_, _, sku, _)| sku.starts_with(&format!("{round} "))).count() as u64;
    assert!((added..=16).contains(&own), "{added} of {contents:?}");
    assert!(contents.contains(&default(&shared, 50 + own)), "{own}: {contents:?}");
}
