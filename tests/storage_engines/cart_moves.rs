//! Carts that move at the same instant, at one connector and at two.

use libtest_mimic::Trial;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::cart_migration::migrate;
use crate::checks::*;
use crate::engine::{Engine, on_every_engine, on_postgres, properties};
use crate::support::Server;
use crate::support::carts::{default, signed_in};
use crate::support::keys::rsa;
use crate::support::provider::Provider;
use crate::support::shopper::{Shopper, UNLIMITED, anonymous, anonymous_with_id, with_token};

pub(crate) fn trials() -> Vec<Trial> {
    let everywhere = properties![of_many_migrations_at_once_each_line_moves_once];
    let shared = properties![at_two_connectors_each_line_moves_once];
    [on_every_engine(module_path!(), everywhere), on_postgres(module_path!(), shared)].into_iter().flatten().collect()
}

async fn of_many_migrations_at_once_each_line_moves_once(engine: Engine) {
    let server = engine.demo(&UNLIMITED).await;
    let known = signed_in(&server, "shopper-uuid-001").await;
    moves_once(&[(&server, &known), (&server, &known)]).await;
    all_arrive(&[(&server, &known), (&server, &known)]).await;
}

async fn at_two_connectors_each_line_moves_once(engine: Engine) {
    let provider = Provider::start(&[rsa()]).await;
    let trusting = provider.settings();
    let trusting = trusting.iter().map(|(name, value)| (*name, value.as_str()));
    let keys = [base64([1; 32]), base64([2; 32])];
    let keys = [("commerce.signing_keys", keys[0].as_str()), ("commerce.context_keys", keys[1].as_str())];
    let settings: Vec<_> = UNLIMITED.into_iter().chain(trusting).chain(keys).collect();
    let one = engine.demo(&settings).await;
    let other = one.replica().await;
    let token = rsa().token(&provider.claims(one.clock.now()));
    let known = [with_token(&one, &token).await, with_token(&other, &token).await];
    moves_once(&[(&one, &known[0]), (&other, &known[1])]).await;
    all_arrive(&[(&one, &known[0]), (&other, &known[1])]).await;
    assert_eq!(known[0].carts().await, known[1].carts().await);
    // What one connector has handed out the other takes.
    let nobody = anonymous(&one).await;
    let there = nobody.clone().at(&other);
    there.add("a", 1).await;
    assert_eq!(nobody.has().await, [default("a", 1)]);
}

/// Some add while they move, over and over, with all of these connectors; every piece arrives once.
async fn moves_once(places: &[(&Server, &Shopper); 2]) {
    let known = places[0].1;
    for round in 0..3 {
        let (id, shared) = (new_id(), format!("shared {round}"));
        let nobodies = [anonymous_with_id(places[0].0, &id).await, anonymous_with_id(places[1].0, &id).await];
        nobodies[0].add(&shared, 50).await;
        let mut working = JoinSet::new();
        for number in 0..20 {
            let (nobody, known) = (nobodies[number % 2].clone(), places[number % 2].1.clone());
            let lines = json!([{ "sku": shared, "qty": 1 }, { "sku": format!("{round} {number}"), "qty": 1 }]);
            working.spawn(async move {
                if number % 5 == 4 {
                    assert_eq!(known.migrate(nobody.anonymous_id.as_deref().unwrap()).await.status, 200);
                    return 0;
                }
                let cart = nobody.open("Default", "US").await;
                let added = nobody.lines(Method::POST, cart, &lines).await;
                // On a busy machine the request may time out: then the lines may have been added or not.
                assert!(matches!(added.status, 200 | 404 | 500), "it is there, or has moved: {}", added.json());
                u64::from(added.status == 200)
            });
        }
        let added: u64 = working.join_all().await.into_iter().sum();
        assert_eq!(known.migrate(&id).await.status, 200);
        assert_eq!(nobodies[0].has().await, []);
        let has = known.has().await;
        let own = has.iter().filter(|(_, _, sku, _)| sku.starts_with(&format!("{round} "))).count() as u64;
        assert!((added..=16).contains(&own), "{added} of {has:?}");
        assert!(has.contains(&default(&shared, 50 + own)), "{own}: {has:?}");
    }
}

/// Many who are one move at the same instant.
async fn all_arrive(places: &[(&Server, &Shopper); 2]) {
    let known = places[0].1;
    let mut moving = JoinSet::new();
    let mut expected = Vec::new();
    for number in 0..16 {
        let (server, known) = places[number % 2];
        let (nobody, known, sku) = (anonymous(server).await, known.clone(), format!("of {number:02}"));
        nobody.add(&sku, 1).await;
        expected.push(default(&sku, 1));
        moving.spawn(async move { migrate(&known, &nobody).await });
    }
    moving.join_all().await;
    let mut has = known.has().await;
    has.retain(|(_, _, sku, _)| sku.starts_with("of "));
    has.sort();
    assert_eq!(has, expected);
}
