//! Many shoppers' apps change carts as fast as possible, while a gate must still open in time.

use crate::trials::{apply, on_databases, on_postgres, with_postgres};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::Engine;
use crate::support::carts::{default, signed_in};
use crate::support::shopper::{Shopper, UNLIMITED, anonymous};
use crate::support::{Postgres, Server};

/// The number of phones, and the number of changes that each makes.
const PHONES: usize = 24;
const CHANGES: usize = 10;

#[apply(on_databases)]
async fn gates_open_while_apps_change_carts(engine: Engine) {
    gates_open(engine, &[]).await;
}

#[apply(on_postgres)]
async fn gates_open_with_the_fewest_connections(engine: Engine) {
    gates_open(engine, &[("storage.max_connections", "4")]).await;
}

async fn gates_open(engine: Engine, settings: &[(&str, &str)]) {
    let settings = [&UNLIMITED[..], &[("rate_limit.burst", "1000000000")], settings].concat();
    let server = Arc::new(engine.demo(&settings).await);
    let mut phones = vec![signed_in(&server, "shopper-uuid-001").await];
    while phones.len() < PHONES {
        phones.push(anonymous(&server).await);
    }
    let busy = Arc::new(AtomicUsize::new(PHONES));
    let mut working = JoinSet::new();
    for phone in phones {
        let busy = Arc::clone(&busy);
        working.spawn(async move {
            let (added, late) = change_often(&phone).await;
            busy.fetch_sub(1, Ordering::Relaxed);
            (phone, added, late)
        });
    }
    let mut scans = 0;
    while busy.load(Ordering::Relaxed) > 0 {
        // Entries and exits are written, like the carts.
        for (key, location) in
            [("valid_shopper_key", "ENTRY"), ("associate_key", "ENTRY"), ("valid_shopper_key", "EXIT")]
        {
            let answer = server.verify(&set(scan_of(&new_id(), key), "authEvent.location", location)).await;
            assert_eq!(answer.status, 200, "scan {scans}: {}", answer.json());
            scans += 1;
        }
    }
    assert!(scans > 3, "too few scans were sent: {scans}");
    for (phone, added, late) in working.join_all().await {
        assert!(added > 0, "the phones can change their carts");
        let contents = phone.contents().await;
        let may_have = (added..=added + late).map(|qty| default("a", qty));
        assert!(
            may_have.into_iter().any(|line| contents == [line]),
            "{added} changes were confirmed, {late} timed out: {contents:?}"
        );
    }
}

/// An open transaction has locked a cart that many requests want to change. They wait on connections that no scan
/// needs.
#[apply(with_postgres)]
async fn gates_open_while_apps_wait_for_a_cart(postgres: Postgres) {
    let url = postgres.database();
    let server = Server::postgres(&url, &UNLIMITED).await;
    let phone = signed_in(&server, "shopper-uuid-001").await;
    phone.add("a", 1).await;
    let cart = phone.open("Default", "US").await;
    let locked = postgres.begin(&url, "SELECT FROM basket FOR UPDATE");
    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        let phone = phone.clone();
        waiting.spawn(async move { phone.lines(Method::POST, cart, &json!([{ "sku": "a", "qty": 1 }])).await.status });
    }
    let blocked = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    wait_until("requests wait for the lock", async || postgres.query(&url, blocked).trim() == "t").await;
    for scan in 0..30 {
        let answer = server.verify(&scan_of(&new_id(), "valid_shopper_key")).await;
        assert_eq!(answer.status, 200, "scan {scan}: {}", answer.json());
    }
    drop(locked);
    let statuses = waiting.join_all().await;
    assert!(statuses.iter().all(|status| matches!(status, 200 | 500)), "changed, or timed out: {statuses:?}");
    phone.add("b", 1).await;
}

/// Changes the cart often. Returns the number of confirmed changes, and the number of changes that timed out, which can
/// happen on a busy machine: these may or may not have been made. Changes that are refused with 429 are not repeated.
async fn change_often(phone: &Shopper) -> (u64, u64) {
    let cart = phone.open("Default", "US").await;
    let (mut added, mut late) = (0, 0);
    for _ in 0..CHANGES {
        let answer = phone.lines(Method::POST, cart, &json!([{ "sku": "a", "qty": 1 }])).await;
        assert!(matches!(answer.status, 200 | 429 | 500), "{}", answer.json());
        added += u64::from(answer.status == 200);
        late += u64::from(answer.status == 500);
    }
    (added, late)
}
