//! Carts as each engine stores, migrates and expires them. With PostgreSQL, several connectors change the carts of one
//! database; with SQLite and in memory, several tasks of one connector do. `src/shopper/carts/rules/tests.rs` tests the
//! rules for changes.

use crate::trials::{apply, on_every_engine, on_postgres};
use std::any::Any;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use identity_connector::testing::digest::HashKey;
use identity_connector::testing::domain::customer::{AnonymousId, Customer};
use identity_connector::testing::domain::ids::{Issuer, SubjectId};
use identity_connector::testing::shopper::carts::CartStore;
use identity_connector::testing::shopper::carts::rules::{
    CartId, CartName, CartRefusal, Carts, Currency, Market, Quantity, Sku,
};
use identity_connector::testing::storage::{Database, Location};
use tokio::task::JoinSet;

use crate::checks::wait_until;
use crate::engine::{self, Engine, postgres};

/// The number of connectors.
const CONNECTORS: usize = 3;
const MAX_OWNERS: usize = 1000;
const MONTH: i64 = 30 * 24;

/// The cart stores of connectors that share one database.
struct Connectors {
    stores: Vec<Arc<CartStore>>,
    _fixture: Box<dyn Any>,
}

impl Connectors {
    async fn start(engine: Engine) -> Self {
        let (store, fixture): (CartStore, Box<dyn Any>) = match engine {
            Engine::Postgres => {
                let (database, mut stores) = (engine::Database::new(), Vec::new());
                for _ in 0..CONNECTORS {
                    stores.push(Arc::new(connector(database.url()).await));
                }
                return Self { stores, _fixture: Box::new(database) };
            }
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let location = Location::Sqlite(folder.path().join("c.db"));
                let database = Database::open(&location, Some(hash_key())).await.unwrap();
                let database = database.open_carts().await.unwrap();
                (CartStore::in_database(database, MAX_OWNERS), Box::new(folder))
            }
            Engine::Memory => (CartStore::in_memory(hash_key(), MAX_OWNERS), Box::new(())),
        };
        Self { stores: vec![Arc::new(store)], _fixture: fixture }
    }

    /// The store of one connector.
    fn store(&self, number: usize) -> Arc<CartStore> {
        Arc::clone(&self.stores[number % self.stores.len()])
    }

    /// A customer's carts. All connectors must return the same.
    async fn get(&self, customer: &Customer, now: DateTime<Utc>) -> Carts {
        let carts = self.stores[0].get(customer, now).await.unwrap();
        for other in &self.stores[1..] {
            assert_eq!(other.get(customer, now).await.unwrap(), carts);
        }
        carts
    }

    /// The quantity of each SKU over all carts of a customer.
    async fn amounts(&self, customer: &Customer) -> Vec<(String, u16)> {
        let carts = self.get(customer, at(0)).await;
        let lines = carts.all().iter().flat_map(|cart| &cart.lines);
        let mut amounts: Vec<_> = lines.map(|line| (line.sku.as_str().to_owned(), line.quantity.number())).collect();
        amounts.sort();
        amounts
    }

    /// The names of a customer's carts.
    async fn names(&self, customer: &Customer, now: DateTime<Utc>) -> Vec<String> {
        self.get(customer, now).await.all().iter().map(|cart| cart.name.as_str().to_owned()).collect()
    }

    async fn add(&self, customer: &Customer, name: &str, sku: &str, now: DateTime<Utc>) {
        add(&self.stores[0], customer, name, sku, 1, now).await;
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

fn hash_key() -> HashKey {
    HashKey::new(&[1; 32])
}

async fn connector(url: &str) -> CartStore {
    let location = Location::Postgres { url: url.into(), connections: 4 };
    CartStore::in_database(Database::open(&location, Some(hash_key())).await.unwrap(), MAX_OWNERS)
}

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(hours)
}

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

fn open(carts: &mut Carts, name: &str, id: u64, now: DateTime<Utc>) -> Result<CartId, CartRefusal> {
    let (name, market) = (CartName::parse(name)?, Market::parse("DE")?);
    Ok(carts.open(name, market, Currency::new("EUR", "€")?, CartId::new(id).unwrap(), now)?.id)
}

/// Adds a quantity of a SKU to the customer's cart with this name.
async fn add(store: &CartStore, customer: &Customer, name: &str, sku: &str, pieces: u64, now: DateTime<Utc>) {
    let (name, sku) = (name.to_owned(), Sku::parse(sku).unwrap());
    let change = move |carts: &mut Carts| {
        let id = open(carts, &name, 1, now)?;
        carts.add_lines(id, vec![(sku, Quantity::new(pieces)?)], now).map(drop)
    };
    store.change(customer, now, change).await.unwrap().unwrap();
}

/// A change that is refused after its first step.
fn refused_change(carts: &mut Carts) -> Result<(), CartRefusal> {
    open(carts, "Refused", 9, at(5))?;
    Err(CartRefusal::NoSuchLine)
}

#[apply(on_every_engine)]
async fn stored_carts_read_back_unchanged(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let (customer, now) = (known("k"), at(1) + TimeDelta::nanoseconds(1));
    let change = move |carts: &mut Carts| {
        let greatest = CartId::from_random_bytes([0xff; 8]);
        let (name, market) = (CartName::parse("\"Wünsche\" \\ 🛒\u{202e}")?, Market::parse("'DE'")?);
        carts.open(name, market, Currency::new("EUR", "")?, greatest, now)?;
        carts.add_lines(greatest, vec![(Sku::parse(" \"~\\")?, Quantity::new(999)?)], now)?;
        open(carts, "Default", 1, at(0))?;
        Ok(carts.clone())
    };
    let changed = connectors.store(0).change(&customer, now, change).await.unwrap().unwrap();
    assert_eq!(changed.all().len(), 2);
    assert_eq!(connectors.get(&customer, at(2)).await, changed);
    for other in [known("K"), anonymous(1)] {
        assert!(connectors.get(&other, at(2)).await.is_empty());
    }
    let refused = connectors.store(0).change(&customer, at(5), refused_change).await.unwrap();
    assert_eq!(refused, Err(CartRefusal::NoSuchLine));
    connectors.store(0).change(&customer, at(5), |carts| open(carts, "Default", 9, at(5))).await.unwrap().unwrap();
    assert_eq!(connectors.get(&customer, at(5)).await, changed, "a refused change, and one without effect");
}

#[apply(on_every_engine)]
async fn cart_is_opened_once_across_connectors(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for round in 1..=8 {
        let mut opening = JoinSet::new();
        for number in 0..12 {
            let store = connectors.store(number);
            let change = move |carts: &mut Carts| open(carts, "Default", number as u64 + 1, at(0));
            opening.spawn(async move { store.change(&anonymous(round), at(0), change).await.unwrap().unwrap() });
        }
        let ids = opening.join_all().await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(connectors.get(&anonymous(round), at(0)).await.all().len(), 1);
    }
}

#[apply(on_every_engine)]
async fn no_change_is_lost_across_connectors(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let mut adding = JoinSet::new();
    for number in 0..12 {
        let store = connectors.store(number);
        adding.spawn(async move {
            for sku in [format!("own {number:02}"), "shared".to_owned()] {
                add(&store, &known("k"), "Default", &sku, 3, at(0)).await;
            }
        });
    }
    adding.join_all().await;
    let mut expected: Vec<_> = (0..12).map(|number| (format!("own {number:02}"), 3)).collect();
    expected.push(("shared".to_owned(), 36));
    assert_eq!(connectors.amounts(&known("k")).await, expected);
}

#[apply(on_every_engine)]
async fn cart_is_migrated_once_across_connectors(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for from in 1..=8 {
        let to = known(&from.to_string());
        connectors.add(&anonymous(from), "Default", "a", at(0)).await;
        connectors.migrate_concurrently(vec![(from, to.clone()); 9]).await;
        assert_eq!(connectors.amounts(&to).await, [("a".to_owned(), 1)]);
        assert_eq!(connectors.amounts(&anonymous(from)).await, []);
        connectors.add(&anonymous(from), "Default", "a", at(0)).await;
        connectors.migrate_concurrently(vec![(from, to.clone()); 2]).await;
        assert_eq!(connectors.amounts(&to).await, [("a".to_owned(), 2)], "with the line added since");
    }
}

#[apply(on_every_engine)]
async fn carts_of_many_anonymous_ids_merge_into_one_customer(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for from in 1..=12 {
        for sku in ["a", &format!("own {from:02}")] {
            connectors.add(&anonymous(from), "Default", sku, at(0)).await;
        }
    }
    connectors.migrate_concurrently((1..=12).map(|from| (from, known("k")))).await;
    let mut expected = vec![("a".to_owned(), 12)];
    expected.extend((1..=12).map(|from| (format!("own {from:02}"), 1)));
    assert_eq!(connectors.amounts(&known("k")).await, expected);
}

/// Two migrations in opposite directions lock the same two rows.
#[apply(on_every_engine)]
async fn carts_that_migrate_in_both_directions_are_kept(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for round in 1..=20 {
        let (first, second) = (round, round + 100);
        add(&connectors.store(0), &anonymous(first), "Default", "a", 2, at(0)).await;
        add(&connectors.store(1), &anonymous(second), "Default", "a", 3, at(0)).await;
        let both_directions = [(first, anonymous(second)), (second, anonymous(first))];
        connectors.migrate_concurrently(both_directions.iter().chain(&both_directions).cloned()).await;
        let remaining = connectors.amounts(&anonymous(first)).await;
        assert_eq!([remaining, connectors.amounts(&anonymous(second)).await].concat(), [("a".to_owned(), 5)]);
    }
}

#[apply(on_every_engine)]
async fn lines_added_during_a_migration_are_kept(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let mut adding = JoinSet::new();
    for number in 0..CONNECTORS {
        let store = connectors.store(number);
        adding.spawn(async move {
            for _ in 0..10 {
                add(&store, &anonymous(1), "Default", "a", 1, at(0)).await;
                add(&store, &known("k"), "Default", "a", 1, at(0)).await;
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

#[apply(on_every_engine)]
async fn migration_to_the_same_owner_or_beyond_a_limit_moves_nothing(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let (from, to) = (anonymous(1), known("k"));
    let fill = |carts: &mut Carts| {
        let id = open(carts, "Default", 1, at(0))?;
        let lines = (0..2000).map(|number| Ok((Sku::parse(&number.to_string())?, Quantity::new(1)?)));
        carts.add_lines(id, lines.collect::<Result<_, _>>()?, at(0)).map(drop)
    };
    connectors.store(0).change(&to, at(0), fill).await.unwrap().unwrap();
    connectors.add(&from, "Default", "7", at(0)).await;
    let merged = connectors.store(0).migrate(anonymous_id(1), &to, at(1)).await.unwrap();
    assert_eq!(merged, Ok(connectors.get(&to, at(1)).await), "a migration returns the customer's carts");
    connectors.add(&from, "Default", "one more", at(0)).await;
    let before = [connectors.get(&from, at(1)).await, connectors.get(&to, at(1)).await];
    for (to, expected) in [(&from, Ok(before[0].clone())), (&to, Err(CartRefusal::TooManyLines))] {
        assert_eq!(connectors.store(1).migrate(anonymous_id(1), to, at(1)).await.unwrap(), expected);
    }
    let after = [connectors.get(&from, at(1)).await, connectors.get(&to, at(1)).await];
    assert!(after == before, "both owners keep their carts");
}

#[apply(on_every_engine)]
async fn anonymous_cart_expires_exactly_30_days_after_its_last_change(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let (guest, customer) = (anonymous(1), known("k"));
    for owner in [&guest, &customer] {
        connectors.add(owner, "Old", "a", at(0)).await;
        connectors.add(owner, "New", "b", at(1)).await;
        assert_eq!(connectors.names(owner, at(MONTH) - TimeDelta::nanoseconds(1)).await, ["Old", "New"]);
    }
    assert_eq!(connectors.names(&guest, at(MONTH)).await, ["New"]);
    assert_eq!(connectors.names(&customer, at(100 * MONTH)).await, ["Old", "New"], "only anonymous carts expire");
    // An expired cart neither counts nor moves.
    let seen = connectors.store(0).change(&guest, at(MONTH), |carts| Ok(carts.all().len())).await.unwrap();
    assert_eq!(seen, Ok(1));
    let moved = connectors.store(0).migrate(anonymous_id(1), &known("other"), at(MONTH)).await.unwrap().unwrap();
    assert_eq!(moved.all().iter().map(|cart| cart.name.as_str()).collect::<Vec<_>>(), ["New"]);
    assert_eq!(connectors.amounts(&known("other")).await, [("b".to_owned(), 1)]);
}

/// More carts than a sweep of a database deletes in one transaction. At an earlier time than that of the sweep, an
/// expired cart would still be returned if it were stored.
#[apply(on_every_engine)]
async fn sweep_deletes_all_expired_carts(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    let owners = || (1..=220).map(anonymous).chain([known("k")]);
    for owner in owners() {
        connectors.add(&owner, "Old", "a", at(0)).await;
    }
    connectors.add(&anonymous(1), "New", "b", at(1)).await;
    for (now, expected) in [(at(MONTH) - TimeDelta::nanoseconds(1), 221), (at(MONTH), 2), (at(MONTH + 1), 1)] {
        connectors.store(0).sweep(now).await.unwrap();
        let mut stored = 0;
        for owner in owners() {
            stored += usize::from(!connectors.stores[0].get(&owner, at(0)).await.unwrap().is_empty());
        }
        assert_eq!(stored, expected, "{now}");
    }
    assert_eq!(connectors.names(&known("k"), at(MONTH + 1)).await, ["Old"]);
}

/// Several connectors sweep while carts that are about to expire are changed.
#[apply(on_every_engine)]
async fn sweep_keeps_carts_in_use(engine: Engine) {
    let connectors = Connectors::start(engine).await;
    for number in 1..=120 {
        connectors.add(&anonymous(number), "Default", "a", at(0)).await;
    }
    let mut working = JoinSet::new();
    for number in 0..CONNECTORS {
        let (sweeping, adding) = (connectors.store(number), connectors.store(number + 1));
        working.spawn(async move { sweeping.sweep(at(MONTH)).await.unwrap() });
        working.spawn(async move {
            for number_in_use in (1..=120).skip(number).step_by(CONNECTORS * 2) {
                add(&adding, &anonymous(number_in_use), "Default", "b", 1, at(MONTH)).await;
            }
        });
    }
    working.join_all().await;
    connectors.store(0).sweep(at(MONTH)).await.unwrap();
    for number in 1..=120_u8 {
        let is_in_use = usize::from(number - 1) % (CONNECTORS * 2) < CONNECTORS;
        let expected = if is_in_use { vec![("b".to_owned(), 1)] } else { vec![] };
        assert_eq!(connectors.amounts(&anonymous(number)).await, expected, "{number}");
    }
}

/// The rows of PostgreSQL. A row for an owner without carts exists only while it is locked.
#[apply(on_postgres)]
async fn owner_without_carts_has_no_row(_: Engine) {
    let database = engine::Database::new();
    let (url, store) = (database.url(), connector(database.url()).await);
    let rows = || postgres().query(url, "SELECT count(*) FROM basket").trim().to_owned();
    assert_eq!(store.change(&anonymous(1), at(0), refused_change).await.unwrap(), Err(CartRefusal::NoSuchLine));
    assert_eq!(store.change(&anonymous(1), at(0), |carts| Ok(carts.all().len())).await.unwrap(), Ok(0));
    assert!(store.migrate(anonymous_id(1), &known("k"), at(0)).await.unwrap().unwrap().is_empty());
    assert_eq!(rows(), "0");
    add(&store, &anonymous(1), "Default", "a", 1, at(0)).await;
    let before = postgres().query(url, "SELECT carts, changed_at, anonymous FROM basket");
    assert!(before.contains("\"a\"") && before.trim().ends_with("|0|1"), "{before}");
    assert_eq!(store.change(&anonymous(1), at(9), refused_change).await.unwrap(), Err(CartRefusal::NoSuchLine));
    assert_eq!(postgres().query(url, "SELECT carts, changed_at, anonymous FROM basket"), before);
    store.migrate(anonymous_id(1), &known("k"), at(0)).await.unwrap().unwrap();
    assert_eq!(postgres().query(url, "SELECT anonymous FROM basket").trim(), "0");
    store.change(&known("k"), at(0), |carts| carts.delete(CartId::new(1).unwrap())).await.unwrap().unwrap();
    assert_eq!(rows(), "0");
    add(&store, &known("k"), "Default", "a", 1, at(0)).await;
    store.forget(hash_key().customer(&known("k"))).await.unwrap();
    assert_eq!(rows(), "0");
}

#[apply(on_postgres)]
async fn sweep_skips_locked_carts(_: Engine) {
    let database = engine::Database::new();
    let (url, store) = (database.url(), connector(database.url()).await);
    for number in 1..=3 {
        add(&store, &anonymous(number), "Default", "a", 1, at(i64::from(number))).await;
    }
    let rows = || postgres().query(url, "SELECT count(*) FROM basket").trim().to_owned();
    let locked = postgres().begin(url, "SELECT FROM basket WHERE changed_at = 2 * 3600000000000 FOR UPDATE");
    store.sweep(at(MONTH + 3)).await.unwrap();
    assert_eq!(rows(), "1", "all but the locked cart");
    drop(locked);
    wait_until("the cart is removed", async || {
        store.sweep(at(MONTH + 3)).await.unwrap();
        rows() == "0"
    })
    .await;
}
