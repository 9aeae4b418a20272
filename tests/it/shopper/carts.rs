//! Carts that several connectors change and migrate in one database. With SQLite, several tasks of one connector do.

use crate::trials::{apply, on_databases, with_postgres};
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use identity_connector::testing::digest::HashKey;
use identity_connector::testing::domain::customer::{AnonymousId, Customer};
use identity_connector::testing::domain::ids::{Issuer, SubjectId};
use identity_connector::testing::shopper::carts::CartStore;
use identity_connector::testing::shopper::carts::rules::{
    CartId, CartName, CartRefusal, Carts, Currency, Market, Quantity, Sku,
};
use identity_connector::testing::storage::{Database, Location};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::checks::PATIENCE;
use crate::engine::{self, Engine};
use crate::support::Postgres;

/// The number of connectors.
const CONNECTORS: usize = 3;

/// Cart stores on one database.
struct Connectors {
    stores: Vec<Arc<CartStore>>,
    _fixture: (Option<TempDir>, Option<engine::Database>),
}

impl Connectors {
    async fn start(engine: Engine) -> Self {
        let (mut stores, mut fixture) = (Vec::new(), (None, None));
        match engine {
            Engine::Postgres => {
                let database = engine::Database::new();
                for _ in 0..CONNECTORS {
                    stores.push(connector(database.url()).await);
                }
                fixture.1 = Some(database);
            }
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let location = Location::Sqlite(folder.path().join("c.db"));
                let database = Database::open(&location, None).await.unwrap();
                let database = database.open_carts(&location).await.unwrap();
                let store = Arc::new(CartStore::in_database(database, 1000));
                stores.extend(vec![store; CONNECTORS]);
                fixture.0 = Some(folder);
            }
            Engine::Memory => panic!("a store in memory cannot be shared"),
        }
        Self { stores, _fixture: fixture }
    }

    /// The store of one connector.
    fn store(&self, number: usize) -> Arc<CartStore> {
        Arc::clone(&self.stores[number % self.stores.len()])
    }

    /// The quantity of each SKU over all carts of a customer. All connectors must return the same.
    async fn amounts(&self, customer: &Customer) -> Vec<(String, u16)> {
        let carts = self.stores[0].get(customer, at(0)).await.unwrap();
        for other in &self.stores {
            assert_eq!(other.get(customer, at(0)).await.unwrap(), carts);
        }
        let lines = carts.all().iter().flat_map(|cart| &cart.lines);
        let mut amounts: Vec<_> = lines.map(|line| (line.sku.as_str().to_owned(), line.quantity.number())).collect();
        amounts.sort();
        amounts
    }

    /// Runs these migrations at the same time, distributed over the connectors. None may be refused.
    async fn migrate_concurrently(&self, moves: impl IntoIterator<Item = (u8, Customer)>) {
        let mut moving = JoinSet::new();
        for (number, (from, to)) in moves.into_iter().enumerate() {
            let store = self.store(number);
            moving.spawn(async move { store.migrate(anonymous_id(from), &to, at(1)).await.unwrap().unwrap() });
        }
        moving.join_all().await;
    }
}

async fn connector(url: &str) -> Arc<CartStore> {
    let location = Location::Postgres { url: url.into(), connections: 4 };
    Arc::new(CartStore::in_database(Database::open(&location, Some(HashKey::new(&[1; 32]))).await.unwrap(), 1000))
}

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
}

const MONTH: i64 = 30 * 24;

fn anonymous_id(number: u8) -> AnonymousId {
    AnonymousId::from_random_bytes([number; 16])
}

fn anonymous(number: u8) -> Customer {
    Customer::Anonymous(anonymous_id(number))
}

fn known(subject: &str) -> Customer {
    let issuer = Issuer::parse("https://issuer.example").unwrap();
    Customer::Known { issuer, subject: SubjectId::parse(subject).unwrap() }
}

fn open(carts: &mut Carts, id: u64, now: DateTime<Utc>) -> Result<CartId, CartRefusal> {
    let (name, market) = (CartName::parse("Default")?, Market::parse("DE")?);
    Ok(carts.open(name, market, Currency::new("EUR", "€")?, CartId::new(id).unwrap(), now)?.id)
}

/// Adds a quantity of a SKU to the customer's cart.
async fn add(store: &CartStore, customer: &Customer, sku: &str, pieces: u64, now: DateTime<Utc>) {
    let sku = Sku::parse(sku).unwrap();
    let change = move |carts: &mut Carts| {
        let id = open(carts, 1, now)?;
        carts.add_lines(id, vec![(sku, Quantity::new(pieces)?)], now).map(drop)
    };
    store.change(customer, now, change).await.unwrap().unwrap();
}

#[apply(on_databases)]
async fn cart_is_opened_once_across_connectors(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for round in 1..=8 {
        let mut opening = JoinSet::new();
        for number in 0..12 {
            let store = connectors.store(number);
            let change = move |carts: &mut Carts| open(carts, number as u64 + 1, at(0));
            opening.spawn(async move { store.change(&anonymous(round), at(0), change).await.unwrap().unwrap() });
        }
        let ids = opening.join_all().await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(connectors.store(0).get(&anonymous(round), at(0)).await.unwrap().all().len(), 1);
    }
}

#[apply(on_databases)]
async fn no_change_is_lost_across_connectors(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let mut adding = JoinSet::new();
    for number in 0..24 {
        let store = connectors.store(number);
        adding.spawn(async move {
            for sku in [format!("own {number:02}"), "shared".to_owned()] {
                add(&store, &known("k"), &sku, 3, at(0)).await;
            }
        });
    }
    adding.join_all().await;
    let mut expected: Vec<_> = (0..24).map(|number| (format!("own {number:02}"), 3)).collect();
    expected.push(("shared".to_owned(), 72));
    assert_eq!(connectors.amounts(&known("k")).await, expected);
}

#[apply(on_databases)]
async fn cart_is_migrated_once_across_connectors(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for from in 1..=8 {
        let to = known(&from.to_string());
        add(&connectors.store(0), &anonymous(from), "a", 2, at(0)).await;
        connectors.migrate_concurrently(vec![(from, to.clone()); 9]).await;
        assert_eq!(connectors.amounts(&to).await, [("a".to_owned(), 2)]);
        assert_eq!(connectors.amounts(&anonymous(from)).await, []);
        add(&connectors.store(1), &anonymous(from), "a", 1, at(0)).await;
        connectors.migrate_concurrently(vec![(from, to.clone()); 2]).await;
        assert_eq!(connectors.amounts(&to).await, [("a".to_owned(), 3)], "with the line added since");
    }
}

#[apply(on_databases)]
async fn carts_of_many_anonymous_ids_merge_into_one_customer(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for from in 1..=12 {
        add(&connectors.store(0), &anonymous(from), "a", 2, at(0)).await;
        add(&connectors.store(0), &anonymous(from), &format!("own {from:02}"), 1, at(0)).await;
    }
    connectors.migrate_concurrently((1..=12).map(|from| (from, known("k")))).await;
    let mut expected = vec![("a".to_owned(), 24)];
    expected.extend((1..=12).map(|from| (format!("own {from:02}"), 1)));
    assert_eq!(connectors.amounts(&known("k")).await, expected);
}

/// Two migrations in opposite directions lock the same two rows.
#[apply(on_databases)]
async fn carts_that_migrate_in_both_directions_are_kept(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for round in 1..=20 {
        let (first, second) = (round, round + 100);
        add(&connectors.store(0), &anonymous(first), "a", 2, at(0)).await;
        add(&connectors.store(1), &anonymous(second), "a", 3, at(0)).await;
        let both_directions = [(first, anonymous(second)), (second, anonymous(first))];
        connectors.migrate_concurrently(both_directions.iter().chain(&both_directions).cloned()).await;
        let remaining = connectors.amounts(&anonymous(first)).await;
        assert_eq!([remaining, connectors.amounts(&anonymous(second)).await].concat(), [("a".to_owned(), 5)]);
    }
}

#[apply(on_databases)]
async fn lines_added_during_a_migration_are_kept(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let mut adding = JoinSet::new();
    for number in 0..CONNECTORS {
        let store = connectors.store(number);
        adding.spawn(async move {
            for _ in 0..10 {
                add(&store, &anonymous(1), "a", 1, at(0)).await;
                add(&store, &known("k"), "a", 1, at(0)).await;
            }
        });
    }
    while !adding.is_empty() {
        connectors.migrate_concurrently(vec![(1, known("k")); 2]).await;
        while let Some(done) = adding.try_join_next() {
            done.unwrap();
        }
    }
    connectors.migrate_concurrently([(1, known("k"))]).await;
    assert_eq!(connectors.amounts(&known("k")).await, [("a".to_owned(), 60)]);
}

/// Several connectors sweep while carts that are about to expire are changed.
#[apply(on_databases)]
async fn sweep_keeps_carts_in_use(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for number in 1..=120 {
        add(&connectors.store(0), &anonymous(number), "a", 1, at(0)).await;
    }
    let mut working = JoinSet::new();
    for number in 0..CONNECTORS {
        let (sweeping, adding) = (connectors.store(number), connectors.store(number + 1));
        working.spawn(async move { sweeping.sweep(at(MONTH)).await.unwrap() });
        working.spawn(async move {
            for number_in_use in (1..=120).skip(number).step_by(CONNECTORS * 2) {
                add(&adding, &anonymous(number_in_use), "b", 1, at(MONTH)).await;
            }
        });
    }
    working.join_all().await;
    connectors.store(0).sweep(at(MONTH)).await.unwrap();
    for number in 1..=120_u8 {
        let carts = connectors.store(0).get(&anonymous(number), at(0)).await.unwrap();
        let skus: Vec<_> = carts.all().iter().flat_map(|cart| &cart.lines).map(|line| line.sku.as_str()).collect();
        let is_in_use = usize::from(number - 1) % (CONNECTORS * 2) < CONNECTORS;
        assert_eq!(skus, if is_in_use { vec!["b"] } else { vec![] }, "{number}");
    }
}

/// A row for an owner without carts exists only while it is locked.
#[apply(with_postgres)]
async fn owner_without_carts_has_no_row(postgres: Postgres) {
    let url = postgres.database();
    let store = connector(&url).await;
    let rows = || postgres.query(&url, "SELECT count(*) FROM basket").trim().to_owned();
    let refused_change = |carts: &mut Carts| {
        open(carts, 1, at(0))?;
        Err::<(), _>(CartRefusal::NoSuchLine)
    };
    assert_eq!(store.change(&anonymous(1), at(0), refused_change).await.unwrap(), Err(CartRefusal::NoSuchLine));
    assert_eq!(store.change(&anonymous(1), at(0), |carts| Ok(carts.all().len())).await.unwrap(), Ok(0));
    assert!(store.migrate(anonymous_id(1), &known("k"), at(0)).await.unwrap().unwrap().is_empty());
    assert_eq!(rows(), "0");
    add(&store, &anonymous(1), "a", 1, at(0)).await;
    let before = postgres.query(&url, "SELECT carts, changed_at, anonymous FROM basket");
    assert!(before.contains("\"a\"") && before.trim().ends_with("|0|1"), "{before}");
    assert_eq!(store.change(&anonymous(1), at(9), refused_change).await.unwrap(), Err(CartRefusal::NoSuchLine));
    assert_eq!(postgres.query(&url, "SELECT carts, changed_at, anonymous FROM basket"), before);
    store.migrate(anonymous_id(1), &known("k"), at(0)).await.unwrap().unwrap();
    assert_eq!(postgres.query(&url, "SELECT anonymous FROM basket").trim(), "0");
    store.change(&known("k"), at(0), |carts| carts.delete(CartId::new(1).unwrap())).await.unwrap().unwrap();
    assert_eq!(rows(), "0");
    add(&store, &known("k"), "a", 1, at(0)).await;
    store.forget(HashKey::new(&[1; 32]).customer(&known("k"))).await.unwrap();
    assert_eq!(rows(), "0");
}

#[apply(with_postgres)]
async fn sweep_skips_locked_carts(postgres: Postgres) {
    let url = postgres.database();
    let store = connector(&url).await;
    for number in 1..=3 {
        add(&store, &anonymous(number), "a", 1, at(i64::from(number))).await;
    }
    let rows = || postgres.query(&url, "SELECT count(*) FROM basket").trim().to_owned();
    let locked = postgres.begin(&url, "SELECT FROM basket WHERE changed_at = 2 * 3600000000000 FOR UPDATE");
    store.sweep(at(MONTH + 3)).await.unwrap();
    assert_eq!(rows(), "1", "all but the locked cart");
    drop(locked);
    let deadline = Instant::now() + PATIENCE;
    while rows() != "0" {
        assert!(Instant::now() < deadline, "the cart still exists");
        store.sweep(at(MONTH + 3)).await.unwrap();
    }
}
