//! Simultaneous cart migrations, at one connector and at two.

use crate::trials::{apply, on_every_engine, on_postgres};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::Engine;
use crate::shopper::cart_migration::migrate;
use crate::support::Server;
use crate::support::carts::{default, signed_in};
use crate::support::keys::rsa;
use crate::support::provider::Provider;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous, anonymous_with_id, with_token};

#[apply(on_every_engine)]
async fn simultaneous_migrations_move_each_line_once(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let customer = signed_in(&server, "shopper-uuid-001").await;
    assert_each_line_moves_once(&[(&server, &customer), (&server, &customer)]).await;
    assert_all_lines_arrive(&[(&server, &customer), (&server, &customer)]).await;
}

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
    assert_each_line_moves_once(&[(&first, &customers[0]), (&second, &customers[1])]).await;
    assert_all_lines_arrive(&[(&first, &customers[0]), (&second, &customers[1])]).await;
    assert_eq!(customers[0].carts().await, customers[1].carts().await);
    // A token from one connector is accepted by the other.
    let guest = anonymous(&first).await;
    let guest_at_second = guest.clone().at(&second);
    guest_at_second.add("a", 1).await;
    assert_eq!(guest.contents().await, [default("a", 1)]);
}

/// Adds lines and migrates the cart at the same time, at both connectors. Every line must arrive once.
async fn assert_each_line_moves_once(connectors: &[(&Server, &Shopper); 2]) {
    let customer = connectors[0].1;
    for round in 0..3 {
        let (id, shared) = (new_id(), format!("shared {round}"));
        let guests = [anonymous_with_id(connectors[0].0, &id).await, anonymous_with_id(connectors[1].0, &id).await];
        guests[0].add(&shared, 50).await;
        let mut working = JoinSet::new();
        for number in 0..20 {
            let (guest, customer) = (guests[number % 2].clone(), connectors[number % 2].1.clone());
            let lines = json!([{ "sku": shared, "qty": 1 }, { "sku": format!("{round} {number}"), "qty": 1 }]);
            working.spawn(async move {
                if number % 5 == 4 {
                    assert_eq!(customer.migrate(guest.anonymous_id.as_deref().unwrap()).await.status, 200);
                    return 0;
                }
                let cart = guest.open("Default", "US").await;
                let added = guest.lines(Method::POST, cart, &lines).await;
                // On a busy machine the request may time out: then the lines may have been added or not.
                assert!(
                    matches!(added.status, 200 | 404 | 500),
                    "added, or the cart has been migrated: {}",
                    added.json()
                );
                u64::from(added.status == 200)
            });
        }
        let added: u64 = working.join_all().await.into_iter().sum();
        assert_eq!(customer.migrate(&id).await.status, 200);
        assert_eq!(guests[0].contents().await, []);
        let contents = customer.contents().await;
        let own = contents.iter().filter(|(_, _, sku, _)| sku.starts_with(&format!("{round} "))).count() as u64;
        assert!((added..=16).contains(&own), "{added} of {contents:?}");
        assert!(contents.contains(&default(&shared, 50 + own)), "{own}: {contents:?}");
    }
}

/// Migrates the carts of many anonymous shoppers to one customer at the same time.
async fn assert_all_lines_arrive(connectors: &[(&Server, &Shopper); 2]) {
    let customer = connectors[0].1;
    let mut moving = JoinSet::new();
    let mut expected = Vec::new();
    for number in 0..16 {
        let (server, customer) = connectors[number % 2];
        let (guest, customer, sku) = (anonymous(server).await, customer.clone(), format!("of {number:02}"));
        guest.add(&sku, 1).await;
        expected.push(default(&sku, 1));
        moving.spawn(async move { migrate(&customer, &guest).await });
    }
    moving.join_all().await;
    let mut has = customer.contents().await;
    has.retain(|(_, _, sku, _)| sku.starts_with("of "));
    has.sort();
    assert_eq!(has, expected);
}
