//! Properties of carts in memory and in SQLite. `tests/it/shopper/carts.rs` tests several connectors on one
//! database.

mod expiry;
mod migration;

use std::sync::Arc;

use chrono::TimeDelta;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::domain::ids::{Issuer, SubjectId};
use crate::domain::scan::Location::Entry;
use crate::ledger::tests::{LIMITS, accepted, far_deadline};
use crate::ledger::{Ledger, Recorded, SqlLedger};
use crate::shopper::carts::rules::{Cart, CartId, CartName, Currency, Market, Quantity, Sku};
use crate::shopper::carts::*;
use crate::storage::{DatabaseError, Location};
use expiry::*;
use migration::*;

fn hash_key() -> HashKey {
    HashKey::new(&[1; 32])
}

/// A cart store, and its database if it has one.
struct Fixture {
    cart_store: Arc<CartStore>,
    database: Option<(Database, TempDir)>,
}

fn in_memory_for(owners: usize) -> Fixture {
    let backend = Backend::Memory(MemoryCarts::new(owners));
    Fixture { cart_store: Arc::new(CartStore { backend, hash_key: hash_key() }), database: None }
}

async fn in_memory() -> Fixture {
    Fixture { cart_store: Arc::new(CartStore::in_memory(hash_key(), 10_000)), database: None }
}

async fn in_sqlite() -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::Sqlite(folder.path().join("c.db"));
    let database = Database::open(&location, None).await.expect("the database opens");
    let database = database.open_carts(&location).await.expect("the database opens");
    let cart_store = Arc::new(CartStore::in_database(database.clone(), 1000));
    Fixture { cart_store, database: Some((database, folder)) }
}

macro_rules! in_memory_and_in_sqlite {
    ($($property:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property(crate::shopper::carts::tests::in_memory().await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property(crate::shopper::carts::tests::in_sqlite().await).await;
            })*
        }
    };
}

in_memory_and_in_sqlite![
    stored_carts_read_back_unchanged,
    cart_is_opened_once,
    refused_change_and_change_without_effect_store_nothing,
    concurrent_changes_lose_nothing,
    second_migration_moves_only_new_lines,
    concurrent_migrations_of_one_owner_move_carts_once,
    concurrent_migrations_of_several_owners_move_all_carts,
    concurrent_opposite_migrations_lose_nothing,
    migration_to_the_same_owner_or_beyond_a_limit_moves_nothing,
    anonymous_cart_expires_after_exactly_30_days,
    expired_cart_neither_moves_nor_counts,
    sweep_deletes_expired_carts,
    forgotten_owner_has_no_carts,
];

impl Fixture {
    /// The number of owners with a record.
    async fn owners(&self) -> usize {
        match (&self.cart_store.backend, &self.database) {
            (Backend::Memory(carts), _) => carts.owners(),
            (_, Some((database, _))) => {
                let count = database.look_up(|connection| {
                    Box::pin(async move {
                        let count: i64 =
                            sqlx::query_scalar("SELECT count(*) FROM basket").fetch_one(connection).await?;
                        Ok(usize::try_from(count).expect("a count"))
                    })
                });
                count.await.expect("the count succeeds")
            }
            (Backend::Sql(_), None) => panic!("the database is missing"),
        }
    }

    async fn get(&self, customer: &Customer, now: DateTime<Utc>) -> Carts {
        self.cart_store.get(customer, now).await.expect("the carts are read")
    }

    /// The SKUs and quantities of a customer, over all carts.
    async fn amounts(&self, customer: &Customer) -> Vec<(String, u16)> {
        let carts = self.get(customer, at(0)).await;
        let lines = carts.all().iter().flat_map(|cart| &cart.lines);
        let mut amounts: Vec<_> = lines.map(|line| (line.sku.as_str().to_owned(), line.quantity.number())).collect();
        amounts.sort();
        amounts
    }

    async fn add(&self, customer: &Customer, name: &str, sku: &str, pieces: u64, now: DateTime<Utc>) {
        add(&self.cart_store, customer, name, sku, pieces, now)
            .await
            .expect("the carts are written")
            .expect("within the limits");
    }

    /// Adds 100 SKUs named `full {first}`, `full {first + 1}`, …
    async fn fill(&self, customer: &Customer, first: usize) {
        let lines = (first..).take(100).map(|number| Sku::parse(&format!("full {number}")).expect("a SKU"));
        let lines: Vec<_> = lines.map(|sku| (sku, Quantity::new(1).expect("a quantity"))).collect();
        let fill = move |carts: &mut Carts| {
            let id = open(carts, "Default", 1, at(0))?.id;
            carts.add_lines(id, lines, at(0)).map(drop)
        };
        self.cart_store.change(customer, at(0), fill).await.expect("the carts are written").expect("within the limits");
    }

    async fn migrate(&self, from: u8, to: &Customer, now: DateTime<Utc>) -> Result<Carts, CartRefusal> {
        self.cart_store.migrate(anonymous_id(from), to, now).await.expect("the carts are written")
    }
}

async fn add(
    cart_store: &CartStore,
    customer: &Customer,
    name: &str,
    sku: &str,
    pieces: u64,
    now: DateTime<Utc>,
) -> Result<Result<Cart, CartRefusal>, CartsError> {
    let (name, sku) = (name.to_owned(), Sku::parse(sku).expect("a SKU"));
    let change = move |carts: &mut Carts| {
        let id = open(carts, &name, pieces, now)?.id;
        carts.add_lines(id, vec![(sku, Quantity::new(pieces)?)], now).cloned()
    };
    cart_store.change(customer, now, change).await
}

/// Opens a cart with the id `wanted`, or the next free one.
fn open<'a>(carts: &'a mut Carts, name: &str, wanted: u64, now: DateTime<Utc>) -> Result<&'a Cart, CartRefusal> {
    let id = CartId::new(wanted).expect("an id");
    carts.open(CartName::parse(name)?, Market::parse("DE")?, Currency::new("EUR", "€")?, id, now)
}

fn at(hours: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::hours(hours)).expect("in range")
}

fn anonymous_id(number: u8) -> AnonymousId {
    AnonymousId::from_random_bytes([number; 16])
}

fn anonymous(number: u8) -> Customer {
    Customer::Anonymous(anonymous_id(number))
}

fn known(subject: &str) -> Customer {
    let issuer = Issuer::parse("https://issuer.example").expect("an issuer");
    Customer::Known { issuer, subject: SubjectId::parse(subject).expect("a subject") }
}

async fn stored_carts_read_back_unchanged(fixture: Fixture) {
    let customer = known("k");
    let now = at(1).checked_add_signed(TimeDelta::nanoseconds(1)).expect("in range");
    let change = move |carts: &mut Carts| {
        let greatest = CartId::from_random_bytes([0xff; 8]);
        let (name, market) = (CartName::parse("\"Wünsche\" \\ 🛒\u{202e}")?, Market::parse("'DE'")?);
        carts.open(name, market, Currency::new("EUR", "")?, greatest, now)?;
        carts.add_lines(greatest, vec![(Sku::parse(" \"~\\")?, Quantity::new(999)?)], now)?;
        open(carts, "Default", 1, at(0))?;
        Ok(carts.clone())
    };
    let changed = fixture
        .cart_store
        .change(&customer, now, change)
        .await
        .expect("the carts are written")
        .expect("within the limits");
    assert_eq!(changed.all().len(), 2);
    assert_eq!(fixture.get(&customer, at(2)).await, changed);
    assert!(fixture.get(&known("K"), at(2)).await.is_empty() && fixture.get(&anonymous(1), at(2)).await.is_empty());
    assert_eq!(fixture.owners().await, 1);
}

async fn cart_is_opened_once(fixture: Fixture) {
    let customer = anonymous(1);
    let mut opening = JoinSet::new();
    for number in 1..=16 {
        let (cart_store, customer) = (Arc::clone(&fixture.cart_store), customer.clone());
        opening.spawn(async move {
            let change = move |carts: &mut Carts| open(carts, "Default", number, at(0)).cloned();
            cart_store
                .change(&customer, at(0), change)
                .await
                .expect("the carts are written")
                .expect("within the limits")
        });
    }
    let opened = opening.join_all().await;
    assert!(opened.iter().all(|cart| *cart == opened[0]), "{opened:?}");
    assert_eq!(fixture.get(&customer, at(0)).await.all(), &opened[..1]);
}

async fn refused_change_and_change_without_effect_store_nothing(fixture: Fixture) {
    let customer = anonymous(1);
    let refused_change = |carts: &mut Carts| {
        open(carts, "Refused", 9, at(5))?;
        Err::<(), _>(CartRefusal::NoSuchLine)
    };
    let refused = fixture.cart_store.change(&customer, at(0), refused_change).await.expect("the carts are available");
    assert_eq!(refused, Err(CartRefusal::NoSuchLine));
    let count = fixture
        .cart_store
        .change(&customer, at(0), |carts| Ok(carts.all().len()))
        .await
        .expect("the carts are available");
    assert_eq!((count, fixture.owners().await), (Ok(0), 0));

    fixture.add(&customer, "Default", "a", 2, at(0)).await;
    let before = fixture.get(&customer, at(5)).await;
    let refused = fixture.cart_store.change(&customer, at(5), refused_change).await.expect("the carts are available");
    assert_eq!((refused, fixture.get(&customer, at(5)).await), (Err(CartRefusal::NoSuchLine), before.clone()));
    let open = move |carts: &mut Carts| open(carts, "Default", 9, at(5)).cloned();
    fixture.cart_store.change(&customer, at(5), open).await.expect("the carts are available").expect("the cart exists");
    assert_eq!(fixture.get(&customer, at(5)).await, before);

    let delete = |carts: &mut Carts| carts.delete(CartId::new(2).expect("an id"));
    let deleted = fixture.cart_store.change(&customer, at(5), delete).await.expect("the carts are available");
    assert_eq!(deleted.map(|cart| cart.lines.len()), Ok(1));
    assert_eq!(fixture.owners().await, 0, "an owner without carts has no record");
}

async fn concurrent_changes_lose_nothing(fixture: Fixture) {
    let customer = known("k");
    let mut adding = JoinSet::new();
    for number in 0..32 {
        let (cart_store, customer) = (Arc::clone(&fixture.cart_store), customer.clone());
        adding.spawn(async move {
            for sku in [format!("own {number:02}"), "shared".to_owned()] {
                add(&cart_store, &customer, "Default", &sku, 3, at(0))
                    .await
                    .expect("the carts are written")
                    .expect("within the limits");
            }
        });
    }
    adding.join_all().await;
    let mut expected: Vec<_> = (0..32).map(|number| (format!("own {number:02}"), 3)).collect();
    expected.push(("shared".to_owned(), 96));
    assert_eq!(fixture.amounts(&customer).await, expected);
}

async fn write(database: &Database, statement: &'static str) {
    let written = database.transaction(move |connection| {
        Box::pin(async move { Ok::<_, DatabaseError>(sqlx::query(statement).execute(connection).await?) })
    });
    written.await.expect("the carts are written");
}

/// JSON members and columns added by a later release are ignored. An invalid row is an error that does not quote it,
/// and it can be deleted.
#[tokio::test]
async fn row_of_a_later_release_is_read_and_an_invalid_row_is_an_error() {
    let fixture = in_sqlite().await;
    let (database, _) = fixture.database.as_ref().expect("a database");
    let customer = known("k");
    fixture.add(&customer, "Default", "a", 7, at(0)).await;
    let before = fixture.get(&customer, at(0)).await;
    write(database, r#"UPDATE basket SET carts = replace(carts, '{"id"', '{"later": [{}], "id"')"#).await;
    write(database, "ALTER TABLE basket ADD COLUMN later TEXT").await;
    assert_eq!(fixture.get(&customer, at(0)).await, before);
    fixture.add(&customer, "Default", "a", 1, at(0)).await;
    write(database, "UPDATE basket SET carts = replace(carts, '\"quantity\":8', '\"quantity\":1000')").await;
    let errors = [
        fixture.cart_store.get(&customer, at(0)).await.expect_err("the row is invalid").to_string(),
        add(&fixture.cart_store, &customer, "Default", "a", 1, at(0))
            .await
            .expect_err("the row is invalid")
            .to_string(),
    ];
    assert!(errors.iter().all(|error| error == "carts unavailable: invalid data in the database: carts"));
    fixture.cart_store.forget(fixture.cart_store.hash_key.customer(&customer)).await.expect("the owner is deleted");
    assert!(fixture.get(&customer, at(0)).await.is_empty());
}

/// A change to carts, however long, does not delay the ledger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recording_does_not_wait_for_a_change_to_carts() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::Sqlite(folder.path().join("c.db"));
    let database = Database::open(&location, None).await.expect("the database opens");
    let carts = CartStore::in_database(database.open_carts(&location).await.expect("the database opens"), 1000);
    let ledger = Ledger::Sql(SqlLedger::open(database, LIMITS).await.expect("the ledger opens"));
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel();
    let changing = tokio::spawn(async move {
        let customer = Customer::Anonymous(anonymous_id(7));
        let change = carts.change(&customer, at(0), move |_| {
            let _ = begin.send(());
            let _ = ended.recv(); // the transaction is open
            Ok(())
        });
        change.await.expect("the carts are written").expect("within the limits");
    });
    begun.await.expect("the change begins");
    let recorded = ledger.record(accepted(0, Entry), at(0), far_deadline()).await;
    assert!(matches!(recorded, Ok(Recorded::New(_))), "{recorded:?}");
    end.send(()).expect("the change is waiting");
    changing.await.expect("the change ends");
}
