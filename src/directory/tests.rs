//! Tests of the look-ups and changes for shopper apps, in memory and on SQLite.

use std::slice;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;

use super::*;
use crate::digest::Fingerprint;
use crate::domain::customer::Customer;
use crate::domain::ids::{Issuer, SubjectId};
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::ScanKeyWindow;
use crate::domain::visitor::{Account, Shopper, VisitorType};
use crate::storage::Location;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("in range")
}

fn visitor(name: &str) -> VisitorId {
    VisitorId::parse(name).expect("an id")
}

fn device(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("an id")
}

fn customer(subject: &str) -> Customer {
    let issuer = Issuer::parse("https://issuer").expect("an issuer");
    Customer::Known { issuer, subject: SubjectId::parse(subject).expect("a subject") }
}

fn token(number: usize) -> RecognitionToken {
    RecognitionToken::parse(&format!("{number:032}")).expect("a token")
}

/// A directory in memory and one on SQLite, and the folder of its file.
async fn directories() -> ([Directory; 2], tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let database =
        Database::open(&Location::Sqlite(folder.path().join("c.db")), None).await.expect("the database opens");
    ([Directory::in_memory(HashKey::new(&[0; 32])), Directory::in_database(database)], folder)
}

/// Puts the shopper `v` with the devices `d` and `e`.
async fn put_shopper(directory: &Directory, account: Account) {
    let mut profile = Profile::new(visitor("v"));
    Arc::make_mut(&mut profile.shopper).account = account;
    profile.devices = vec![device("d"), device("e")];
    directory.apply(vec![Change::PutShopper(profile)], at(0)).await.expect("the changes are applied");
}

/// A token for shopper `v`.
fn issued(directory: &Directory, number: usize, device: Option<DeviceId>, expires_at: i64) -> IssuedToken {
    let digest = directory.hash_key().recognition_token(&token(number));
    IssuedToken { digest, shopper: visitor("v"), device, promised_until: at(0), expires_at: at(expires_at) }
}

async fn issue(directory: &Directory, number: usize, expires_at: i64, now: i64) -> Issued {
    let token = issued(directory, number, Some(device("d")), expires_at);
    directory.issue(token, 3, at(now)).await.expect("the query succeeds")
}

async fn found(directory: &Directory, number: usize, now: i64) -> Option<Registration> {
    let subject = Fingerprint::from_bytes([1; 32]).into();
    let store = StoreId::parse("S").expect("an id");
    let context = ScanContext { subject, store, channel: None, deadline: Instant::now() };
    directory.recognition_token(&token(number), at(now), &context).await.expect("the query succeeds")
}

async fn which_are_found(directory: &Directory, of: usize, now: i64) -> Vec<usize> {
    let mut numbers = Vec::new();
    for number in 0..of {
        if found(directory, number, now).await.is_some() {
            numbers.push(number);
        }
    }
    numbers
}

#[tokio::test]
async fn an_issued_token_identifies_its_shopper_until_it_expires() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        put_shopper(&directory, Account::Active).await;
        assert_eq!(found(&directory, 0, 0).await, None);
        assert_eq!(issue(&directory, 0, 60, 0).await, Issued::Done);
        for account in [Account::Active, Account::Flagged] {
            put_shopper(&directory, account).await;
            let Some(Registration::Active { holder, channel: None }) = found(&directory, 0, 59).await else {
                panic!("it is active, on any channel")
            };
            assert_eq!(
                (&holder.shopper.visitor.id, holder.shopper.account),
                (&visitor("v"), account),
                "the current account"
            );
            assert_eq!(holder.device, Some(device("d")));
        }
        assert_eq!(found(&directory, 0, 60).await, None, "expired");
        assert!(found(&directory, 0, 59).await.is_some(), "neither answer is cached");
    }
}

#[tokio::test]
async fn a_token_is_issued_only_to_an_existing_shopper_and_for_one_of_their_devices() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        assert_eq!(issue(&directory, 0, 60, 0).await, Issued::Refused(Refusal::NotFound));
        put_shopper(&directory, Account::Active).await;
        for other in ["x", "d\0"] {
            let refused = directory.issue(issued(&directory, 0, Some(device(other)), 60), 3, at(0)).await;
            assert_eq!(refused.expect("the query succeeds"), Issued::Refused(Refusal::UnknownDevice));
        }
        assert_eq!(found(&directory, 0, 0).await, None);
        let without = directory.issue(issued(&directory, 0, None, 60), 3, at(0)).await;
        assert_eq!(without.expect("the query succeeds"), Issued::Done);
        let Some(Registration::Active { holder, .. }) = found(&directory, 0, 0).await else { panic!("it is active") };
        assert_eq!(holder.device, None);
    }
}

#[tokio::test]
async fn the_oldest_tokens_are_deleted_above_the_limit() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        put_shopper(&directory, Account::Active).await;
        for (number, expires_at) in (60..65).enumerate() {
            issue(&directory, number, expires_at, 0).await;
        }
        assert_eq!(which_are_found(&directory, 5, 0).await, [2, 3, 4]);
        // Expired tokens are deleted before any other.
        issue(&directory, 5, 100, 63).await;
        issue(&directory, 6, 101, 63).await;
        assert_eq!(which_are_found(&directory, 7, 0).await, [4, 5, 6]);
    }
}

#[tokio::test]
async fn a_registered_token_takes_precedence_over_an_issued_one() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        put_shopper(&directory, Account::Active).await;
        issue(&directory, 0, 60, 0).await;
        let digest = directory.hash_key().recognition_token(&token(0));
        let revoked = Link { revoked: true, ..Link::default() };
        let put = Change::PutRegistration(Kind::RecognitionToken, digest, revoked);
        directory.apply(vec![put], at(0)).await.expect("the changes are applied");
        assert_eq!(found(&directory, 0, 0).await, Some(Registration::Revoked));
    }
}

#[tokio::test]
async fn a_sweep_deletes_all_expired_tokens_and_no_others() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        put_shopper(&directory, Account::Active).await;
        for number in 0..250 {
            let expires_at = if number < 240 { 60 } else { 61 };
            let done = directory.issue(issued(&directory, number, None, expires_at), 1000, at(0)).await;
            assert_eq!(done.expect("the query succeeds"), Issued::Done);
        }
        directory.sweep(at(60)).await.expect("the sweep succeeds");
        assert_eq!(which_are_found(&directory, 250, 0).await, (240..250).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_erased_shopper_has_no_tokens_and_no_customers() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        put_shopper(&directory, Account::Active).await;
        issue(&directory, 0, 60, 0).await;
        let digest = directory.hash_key().customer(&customer("a"));
        let erase = || Change::EraseShopper { id: visitor("v"), pseudonym: visitor("p") };
        let changes = vec![Change::LinkCustomer(digest, visitor("v")), erase()];
        assert_eq!(directory.apply(changes, at(0)).await.expect("the changes are applied"), [Outcome::Changed; 2]);
        put_shopper(&directory, Account::Active).await;
        assert_eq!(found(&directory, 0, 0).await, None, "a new shopper with the same id has no tokens");
        assert_eq!(directory.shopper_of(&customer("a")).await.expect("the query succeeds"), None);
        assert_eq!(directory.customers(None, 10).await.expect("the query succeeds"), []);
    }
}

#[tokio::test]
async fn a_customer_is_linked_with_a_new_shopper_once() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        assert_eq!(directory.shopper_of(&customer("a")).await.expect("the query succeeds"), None);
        let directory = Arc::new(directory);
        let mut asking = JoinSet::new();
        for number in 0..20 {
            let directory = Arc::clone(&directory);
            asking.spawn(async move {
                directory.link_or_create(&customer("a"), visitor(&format!("new {number}")), at(7)).await
            });
        }
        let mut all: Vec<_> =
            asking.join_all().await.into_iter().map(|shopper| shopper.expect("the query succeeds")).collect();
        all.dedup();
        let profile =
            directory.shopper_of(&customer("a")).await.expect("the query succeeds").expect("the customer is linked");
        assert_eq!(all, slice::from_ref(&profile.shopper.visitor.id));
        assert_eq!(directory.shoppers(None, 100).await.expect("the query succeeds"), slice::from_ref(&profile));
        let Shopper { visitor: who, account, payment_method } = &*profile.shopper;
        assert_eq!((who.kind, *account, payment_method), (VisitorType::Shopper, Account::Active, &None));
        assert_eq!(profile.devices, []);

        let audit = directory.audit(None, 100).await.expect("the query succeeds");
        let entries: Vec<_> =
            audit.iter().map(|entry| (&*entry.action, &*entry.kind, &*entry.subject, entry.at)).collect();
        let digest = directory.hash_key().customer(&customer("a")).to_hex();
        assert_eq!(entries, [("put", "customer", &*digest, at(7)), ("put", "shopper", who.id.as_str(), at(7))]);
    }
}

#[tokio::test]
async fn a_new_shopper_never_replaces_an_existing_one() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        put_shopper(&directory, Account::Flagged).await;
        assert!(directory.link_or_create(&customer("a"), visitor("v"), at(0)).await.is_err());
        assert_eq!(directory.shopper_of(&customer("a")).await.expect("the query succeeds"), None);
        let before = directory.profile(&visitor("v")).await.expect("the query succeeds").expect("they are there");
        assert_eq!(before.shopper.account, Account::Flagged);
    }
}

#[tokio::test]
async fn the_shortest_window_counts_enabled_stores_only() {
    let (directories, _folder) = directories().await;
    for directory in directories {
        let shortest =
            async || directory.shortest_window().await.expect("the query succeeds").map(ScanKeyWindow::seconds);
        assert_eq!(shortest().await, None);
        for (id, window, enabled, expected) in
            [("a", 30, false, None), ("b", 90, true, Some(90)), ("c", 45, true, Some(45)), ("d", 60, true, Some(45))]
        {
            let row = serde_json::json!({ "id": id, "scanKeyWindowSeconds": window, "enabled": enabled });
            let store = store(&serde_json::from_value(row).expect("a row")).expect("a valid store");
            directory.apply(vec![Change::PutStore(store)], at(0)).await.expect("the changes are applied");
            assert_eq!(shortest().await, expected);
        }
    }
}
