//! Customers of OpenID providers and their links to shoppers: administration, import and export, sign-in; and the
//! short-lived tokens of their apps. Behaviour that no endpoint shows is tested on the directory itself, with two
//! connectors.

use crate::trials::{apply, on_databases, on_every_engine};
use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use identity_connector::testing::digest::{Fingerprint, HashKey};
use identity_connector::testing::directory::{
    Change, Directory, Issued, IssuedToken, Outcome, Refusal, Registration, ScanContext,
};
use identity_connector::testing::domain::customer::Customer;
use identity_connector::testing::domain::ids::{Issuer, StoreId, SubjectId, VisitorId};
use identity_connector::testing::domain::scan_key_code::RecognitionToken;
use identity_connector::testing::storage::{self, Location};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::checks::*;
use crate::engine::{Database, Engine};
use crate::engines::hostile::{hostile_texts, texts_with_nul};
use crate::engines::import::TestDatabase;
use crate::support::{HASH_KEY, segment};

const ISSUER: &str = "https://hush-issuer.example/tenant/v2.0";
const SHOPPER: &str = "shopper-uuid-001";

fn row(subject: &str, shopper: &str) -> Value {
    json!({ "issuer": ISSUER, "subject": subject, "shopper": shopper })
}

fn digest(row: &Value) -> String {
    row["digest"].as_str().unwrap().to_owned()
}

#[apply(on_every_engine)]
async fn customer_is_shown_by_digest_and_never_by_name(engine: Engine) {
    let server = engine.demo(&[]).await;
    let stored = server.put("customers", &row("hush-subject", SHOPPER)).await;
    let path = format!("customers/{}", digest(&stored));
    assert_eq!(stored, json!({ "digest": stored["digest"], "shopper": SHOPPER }));
    assert_eq!(server.put("customers", &row("hush-subject", SHOPPER)).await, stored, "the same row again");
    assert_eq!(server.admin("GET", &path).await.json(), stored);
    assert_eq!(server.all("customers").await, std::slice::from_ref(&stored));
    assert!(!server.everything().await.contains("hush"));

    assert_eq!(server.admin("DELETE", &path).await.status, 204);
    assert_eq!(server.all("customers").await, Vec::<Value>::new());
    for method in ["GET", "DELETE"] {
        assert_refused(&server.admin(method, &path).await, 404, "Not found", method);
    }
    assert_error_form(&server.admin("POST", &format!("{path}/revoke")).await, 404, "customers cannot be revoked");
    assert_error_form(&server.admin("GET", "customers/hush-subject").await, 400, "not a digest");
}

#[apply(on_every_engine)]
async fn customer_is_linked_to_one_existing_shopper(engine: Engine) {
    let server = engine.demo(&[]).await;
    let stored = server.put("customers", &row("a", SHOPPER)).await;
    let relinked = json!({ "digest": stored["digest"], "shopper": "associate-uuid-001" });
    assert_eq!(server.put("customers", &row("a", "associate-uuid-001")).await, relinked);
    assert_eq!(
        server.put("customers", &set(relinked.clone(), "shopper", SHOPPER)).await,
        stored,
        "identified by digest"
    );
    for refused in [row("a", "unknown"), row("b", "unknown"), set(relinked, "shopper", "unknown")] {
        let answer = server.admin_with("PUT", "customers", refused.to_string()).await;
        assert_refused(&answer, 400, "shopper: no such shopper", "an unknown shopper");
    }
    server.put("customers", &row("b", SHOPPER)).await;
    let shoppers: Vec<_> = server.all("customers").await.iter().map(|row| row["shopper"].clone()).collect();
    assert_eq!(shoppers, [SHOPPER, SHOPPER], "two customers may be linked to one shopper");
}

/// Customers' names are not stored, so any text is allowed. Shoppers' ids are stored.
#[apply(on_every_engine)]
async fn customers_with_unusual_names_are_distinct(engine: Engine) {
    let server = engine.demo(&[]).await;
    let names: Vec<_> = hostile_texts().into_iter().chain(texts_with_nul()).collect();
    let mut digests = BTreeSet::new();
    for name in &names {
        for (issuer, subject) in [(name.as_str(), "s"), ("i", name.as_str()), (name, name)] {
            let row = json!({ "issuer": issuer, "subject": subject, "shopper": SHOPPER });
            assert!(digests.insert(digest(&server.put("customers", &row).await)), "{name:?}");
        }
    }
    let listed: Vec<_> = server.all("customers").await.iter().map(digest).collect();
    assert_eq!(listed, digests.into_iter().collect::<Vec<_>>(), "ordered by digest");
    for name in hostile_texts() {
        server.put(&format!("shoppers/{}", segment(&name)), &json!({ "type": "SHOPPER" })).await;
        assert_eq!(server.put("customers", &row("s", &name)).await["shopper"], *name);
    }
    for name in texts_with_nul() {
        let answer = server.admin_with("PUT", "customers", row("s", &name).to_string()).await;
        assert_error_form(&answer, 400, &name);
    }
}

#[apply(on_every_engine)]
async fn audit_lists_links_by_digest(engine: Engine) {
    let server = engine.demo(&[]).await;
    let before = server.all("audit").await.len();
    let stored = server.put("customers", &row("hush", SHOPPER)).await;
    server.put("customers", &row("hush", SHOPPER)).await; // changes nothing
    server.put("customers", &row("hush", "associate-uuid-001")).await;
    server.admin("DELETE", &format!("customers/{}", digest(&stored))).await;
    server.admin("DELETE", &format!("customers/{}", digest(&stored))).await; // answers 404
    let audit = server.all("audit").await;
    let new = audit.iter().take(audit.len() - before);
    let listed: Vec<_> = new.map(|row| ["action", "kind", "subject"].map(|member| row[member].clone())).collect();
    let expected = ["deleted", "put", "put"].map(|action| [json!(action), json!("customer"), stored["digest"].clone()]);
    assert_eq!(listed, expected);
}

#[apply(on_every_engine)]
async fn erased_shopper_has_no_customers(engine: Engine) {
    let server = engine.demo(&[]).await;
    for subject in ["a", "b"] {
        server.put("customers", &row(subject, SHOPPER)).await;
    }
    let other_row = server.put("customers", &row("c", "associate-uuid-001")).await;
    assert_eq!(server.admin("DELETE", &format!("shoppers/{SHOPPER}")).await.status, 204);
    assert_eq!(server.all("customers").await, [other_row]);
    server.put(&format!("shoppers/{SHOPPER}"), &json!({ "type": "SHOPPER" })).await;
    assert_eq!(
        server.all("customers").await.len(),
        1,
        "a new shopper with the same id has no customers of the erased one"
    );
}

#[apply(on_databases)]
async fn exported_customers_can_be_imported(engine: Engine) {
    let [database, by_lines, by_table] = [(); 3].map(|()| TestDatabase::new(engine));
    let shoppers: String =
        ["a", "b"].map(|id| format!("{}\n", json!({ "shopper": { "id": id, "type": "SHOPPER" } }))).concat();
    let customer = |number: usize| json!({ "customer": row(&format!("hush {number}"), ["a", "b"][number % 2]) });
    let customers: String = (0..1500).map(|number| format!("{}\n", customer(number))).collect();
    // The customers come before the shoppers that they are linked to.
    let rows = format!("{customers}{shoppers}");
    assert!(database.import("a.jsonl", &rows).contains(" 1500 customers: 1502 changed, 0 unchanged"));
    assert!(database.import("a.jsonl", &rows).contains(": 0 changed, 1502 unchanged"));
    let (lines, table) = (database.export("jsonl"), database.export("csv"));
    assert!(!lines.contains("hush") && !table.contains("hush"), "the names of customers are not stored");
    by_lines.import("a.jsonl", &lines);
    by_table.import("a.csv", &table);
    for again in [&by_lines, &by_table] {
        assert!(again.export("jsonl") == lines && again.export("csv") == table, "the export equals the import");
    }
    let named = "record,id,type,issuer,subject,shopper\ncustomer,,,https://i,hush,c\nshopper,c,SHOPPER,,,\n";
    assert!(database.import("b.csv", named).contains(" 1 customer: 2 changed, 0 unchanged"));
}

/// The directories of two connectors on one PostgreSQL database. With SQLite, one directory twice.
async fn two_directories(engine: Engine) -> ([Directory; 2], Box<dyn std::any::Any>) {
    let hash_key = HashKey::from_base64(HASH_KEY).unwrap();
    let open = async |location: &Location| storage::Database::open(location, Some(hash_key.clone())).await.unwrap();
    if let Engine::Postgres = engine {
        let database = Database::new();
        let location = Location::Postgres { url: database.url().into(), connections: 20 };
        let both = [open(&location).await, open(&location).await].map(Directory::in_database);
        return (both, Box::new(database));
    }
    let folder = TempDir::new().unwrap();
    let database = open(&Location::Sqlite(folder.path().join("c.db"))).await;
    ([database.clone(), database].map(Directory::in_database), Box::new(folder))
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
}

fn visitor(name: &str) -> VisitorId {
    VisitorId::parse(name).unwrap()
}

fn customer(subject: &str) -> Customer {
    Customer::Known { issuer: Issuer::parse(ISSUER).unwrap(), subject: SubjectId::parse(subject).unwrap() }
}

fn token(number: usize) -> RecognitionToken {
    RecognitionToken::parse(&format!("{number:032}")).unwrap()
}

/// Retries a call that fails because it waited for a lock for too long, until it succeeds.
macro_rules! retried {
    ($ask:expr) => {{
        let began = Instant::now();
        loop {
            match $ask.await {
                Ok(answer) => break answer,
                Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
            }
        }
    }};
}

async fn new_shopper(directory: &Directory) -> VisitorId {
    retried!(directory.link_or_create(&customer("a"), visitor("v"), at(0)))
}

async fn issue(directory: &Directory, number: usize, expires_at: i64) -> Issued {
    let token = IssuedToken {
        digest: directory.hash_key().recognition_token(&token(number)),
        shopper: visitor("v"),
        device: None,
        promised_until: at(expires_at),
        expires_at: at(expires_at),
    };
    retried!(directory.issue(token.clone(), 3, at(0)))
}

async fn find_token(directory: &Directory, number: usize, now: i64) -> Option<Registration> {
    let store = StoreId::parse("S").unwrap();
    let subject = Fingerprint::from_bytes([1; 32]).into();
    let context = ScanContext { subject, store, channel: None, deadline: tokio::time::Instant::now() };
    retried!(directory.recognition_token(&token(number), at(now), &context))
}

#[apply(on_databases)]
async fn two_connectors_create_one_shopper(engine: Engine) {
    let (directories, _kept) = two_directories(engine).await;
    let directories = directories.map(std::sync::Arc::new);
    for round in 0..5 {
        let mut asking = JoinSet::new();
        for number in 0..16 {
            let directory = directories[number % 2].clone();
            asking.spawn(async move {
                let (customer, new) = (customer(&round.to_string()), visitor(&format!("{round} {number}")));
                retried!(directory.link_or_create(&customer, new.clone(), at(0)))
            });
        }
        let shoppers: HashSet<_> = asking.join_all().await.into_iter().collect();
        assert_eq!(shoppers.len(), 1, "{shoppers:?}");
        for directory in &directories {
            let profile = directory.shopper_of(&customer(&round.to_string())).await.unwrap().unwrap();
            assert!(shoppers.contains(&profile.shopper.visitor.id));
            assert_eq!(directory.shoppers(None, 100).await.unwrap().len(), round + 1, "one shopper for each customer");
            assert_eq!(directory.audit(None, 100).await.unwrap().len(), 2 * (round + 1));
        }
    }
}

#[apply(on_databases)]
async fn token_is_valid_at_both_connectors_until_it_expires(engine: Engine) {
    let ([first_directory, second_directory], _fixture) = two_directories(engine).await;
    assert_eq!(issue(&first_directory, 0, 60).await, Issued::Refused(Refusal::NotFound));
    new_shopper(&first_directory).await;
    for number in 0..3 {
        assert_eq!(find_token(&second_directory, number, 0).await, None);
        assert_eq!(issue(&first_directory, number, 60).await, Issued::Done);
        for directory in [&second_directory, &first_directory] {
            let Some(Registration::Active { holder, .. }) = find_token(directory, number, 59).await else {
                panic!("{number}")
            };
            assert_eq!(holder.shopper.visitor.id, visitor("v"));
            assert_eq!(find_token(directory, number, 60).await, None);
        }
    }
}

#[apply(on_databases)]
async fn number_of_tokens_is_limited_across_connectors(engine: Engine) {
    let (directories, _kept) = two_directories(engine).await;
    new_shopper(&directories[0]).await;
    for round in 0..10 {
        let first = 4 * round;
        let [first_directory, second_directory] = &directories;
        let results = tokio::join!(
            issue(first_directory, first, 60),
            issue(second_directory, first + 1, 60),
            issue(first_directory, first + 2, 60),
            issue(second_directory, first + 3, 60),
        );
        assert_eq!(results, (Issued::Done, Issued::Done, Issued::Done, Issued::Done));
        let mut valid = 0;
        for number in 0..first + 4 {
            valid += usize::from(find_token(first_directory, number, 0).await.is_some());
        }
        assert_eq!(valid, 3, "after {} were issued", first + 4);
    }
}

#[apply(on_databases)]
async fn shopper_erased_while_tokens_are_issued_has_none(engine: Engine) {
    let (directories, _kept) = two_directories(engine).await;
    let directories = directories.map(std::sync::Arc::new);
    new_shopper(&directories[0]).await;
    let mut issuing = JoinSet::new();
    for number in 0..24 {
        let directory = directories[number % 2].clone();
        issuing.spawn(async move { issue(&directory, number, 60).await });
    }
    let erase = vec![Change::EraseShopper { id: visitor("v"), pseudonym: visitor("p") }];
    let erased = directories[0].apply(erase, at(0)).await.unwrap();
    assert_eq!(erased, [Outcome::Changed]);
    let results = issuing.join_all().await;
    assert!(
        results.iter().all(|results| matches!(results, Issued::Done | Issued::Refused(Refusal::NotFound))),
        "{results:?}"
    );
    assert_eq!(directories[1].shopper_of(&customer("a")).await.unwrap(), None);
    new_shopper(&directories[0]).await;
    for number in 0..24 {
        assert_eq!(find_token(&directories[1], number, 0).await, None);
    }
}

#[apply(on_databases)]
async fn sweep_keeps_unexpired_tokens(engine: Engine) {
    let ([first_directory, second_directory], _fixture) = two_directories(engine).await;
    new_shopper(&first_directory).await;
    issue(&first_directory, 0, 60).await;
    issue(&first_directory, 1, 61).await;
    let (swept, as_well) = tokio::join!(first_directory.sweep(at(60)), second_directory.sweep(at(60)));
    swept.and(as_well).unwrap();
    assert!(find_token(&second_directory, 0, 0).await.is_none() && find_token(&second_directory, 1, 0).await.is_some());
}
