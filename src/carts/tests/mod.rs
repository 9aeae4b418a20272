//! What holds wherever carts are kept, in memory and in SQLite; `tests/storage_engines/carts.rs` has what concerns several connectors.

mod ending;
mod moving;

use std::sync::Arc;

use chrono::TimeDelta;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::domain::cart::{Cart, CartId, CartName, Currency, Market, Quantity, Sku};
use crate::domain::ids::{Issuer, SubjectId};
use crate::domain::scan::Location::Entry;
use crate::ledger::tests::{LIMITS, accepted, far_deadline};
use crate::ledger::{Ledger, Recorded, SqlLedger};
use crate::storage::{DatabaseError, Location};
use ending::*;
use moving::*;

fn hash_key() -> HashKey {
    HashKey::new(&[1; 32])
}

/// A store, and what it stands on.
struct Kept {
    store: Arc<CartStore>,
    database: Option<(Database, TempDir)>,
}

fn in_memory_for(owners: usize) -> Kept {
    let backend = Backend::Memory(MemoryCarts::new(owners));
    Kept { store: Arc::new(CartStore { backend, hash_key: hash_key() }), database: None }
}

async fn in_memory() -> Kept {
    Kept { store: Arc::new(CartStore::in_memory(hash_key(), 10_000)), database: None }
}

async fn in_sqlite() -> Kept {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::Sqlite(folder.path().join("c.db"));
    let database = Database::open(&location, None).await.expect("opened");
    let database = database.open_carts(&location).await.expect("opened beside it");
    let store = Arc::new(CartStore::in_database(database.clone(), 1000));
    Kept { store, database: Some((database, folder)) }
}

macro_rules! wherever_they_are_kept {
    ($($property:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property(super::in_memory().await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $property() {
                super::$property(super::in_sqlite().await).await;
            })*
        }
    };
}

wherever_they_are_kept![
    what_is_kept_is_read_back,
    a_cart_is_opened_once,
    what_is_refused_or_changes_nothing_leaves_no_trace,
    changes_at_the_same_instant_lose_nothing,
    carts_move_once_and_later_what_came_since,
    carts_that_move_twice_at_the_same_instant_arrive_once,
    carts_of_two_who_are_one_all_arrive,
    carts_that_move_to_and_fro_are_somewhere,
    carts_stay_where_they_are_when_they_move_to_themselves_or_are_refused,
    an_anonymous_cart_ends_after_exactly_30_days,
    what_has_ended_neither_moves_nor_counts,
    a_sweep_lets_go_of_what_has_ended,
    who_is_forgotten_has_no_carts,
];

impl Kept {
    /// How many owners have left a trace.
    async fn owners(&self) -> usize {
        match (&self.store.backend, &self.database) {
            (Backend::Memory(carts), _) => carts.owners(),
            (_, Some((database, _))) => {
                let count = database.look_up(|connection| {
                    Box::pin(async move {
                        let count: i64 =
                            sqlx::query_scalar("SELECT count(*) FROM basket").fetch_one(connection).await?;
                        Ok(usize::try_from(count).expect("a count"))
                    })
                });
                count.await.expect("counted")
            }
            (Backend::Sql(_), None) => panic!("it stands on a database"),
        }
    }

    async fn of(&self, customer: &Customer, now: DateTime<Utc>) -> Carts {
        self.store.of(customer, now).await.expect("read")
    }

    /// How much of what a customer has, over all carts.
    async fn amounts(&self, customer: &Customer) -> Vec<(String, u16)> {
        let carts = self.of(customer, at(0)).await;
        let lines = carts.all().iter().flat_map(|cart| &cart.lines);
        let mut amounts: Vec<_> = lines.map(|line| (line.sku.as_str().to_owned(), line.quantity.number())).collect();
        amounts.sort();
        amounts
    }

    async fn add(&self, customer: &Customer, name: &str, sku: &str, pieces: u64, now: DateTime<Utc>) {
        add(&self.store, customer, name, sku, pieces, now).await.expect("written").expect("there is room");
    }

    /// As many different things as may be put into a cart, named from a number on.
    async fn fill(&self, customer: &Customer, first: usize) {
        let lines = (first..).take(100).map(|number| Sku::parse(&format!("full {number}")).expect("a SKU"));
        let lines: Vec<_> = lines.map(|sku| (sku, Quantity::new(1).expect("a quantity"))).collect();
        let fill = move |carts: &mut Carts| {
            let id = open(carts, "Default", 1, at(0))?.id;
            carts.add_lines(id, lines, at(0)).map(drop)
        };
        self.store.change(customer, at(0), fill).await.expect("written").expect("there is room");
    }

    async fn migrate(&self, from: u8, to: &Customer, now: DateTime<Utc>) -> Result<Carts, CartRefusal> {
        self.store.migrate(anonymous_id(from), to, now).await.expect("written")
    }
}

async fn add(
    store: &CartStore,
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
    store.change(customer, now, change).await
}

/// The id is made from what is wanted to be, and is the next one that is free.
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

async fn what_is_kept_is_read_back(kept: Kept) {
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
    let changed = kept.store.change(&customer, now, change).await.expect("written").expect("there is room");
    assert_eq!(changed.all().len(), 2);
    assert_eq!(kept.of(&customer, at(2)).await, changed);
    assert!(kept.of(&known("K"), at(2)).await.is_empty() && kept.of(&anonymous(1), at(2)).await.is_empty());
    assert_eq!(kept.owners().await, 1);
}

async fn a_cart_is_opened_once(kept: Kept) {
    let customer = anonymous(1);
    let mut opening = JoinSet::new();
    for number in 1..=16 {
        let (store, customer) = (Arc::clone(&kept.store), customer.clone());
        opening.spawn(async move {
            let change = move |carts: &mut Carts| open(carts, "Default", number, at(0)).cloned();
            store.change(&customer, at(0), change).await.expect("written").expect("there is room")
        });
    }
    let opened = opening.join_all().await;
    assert!(opened.iter().all(|cart| *cart == opened[0]), "{opened:?}");
    assert_eq!(kept.of(&customer, at(0)).await.all(), &opened[..1]);
}

async fn what_is_refused_or_changes_nothing_leaves_no_trace(kept: Kept) {
    let customer = anonymous(1);
    let refuse = |carts: &mut Carts| {
        open(carts, "Refused", 9, at(5))?;
        Err::<(), _>(CartRefusal::NoSuchLine)
    };
    let refused = kept.store.change(&customer, at(0), refuse).await.expect("asked");
    assert_eq!(refused, Err(CartRefusal::NoSuchLine));
    let looked = kept.store.change(&customer, at(0), |carts| Ok(carts.all().len())).await.expect("asked");
    assert_eq!((looked, kept.owners().await), (Ok(0), 0));

    kept.add(&customer, "Default", "a", 2, at(0)).await;
    let before = kept.of(&customer, at(5)).await;
    let refused = kept.store.change(&customer, at(5), refuse).await.expect("asked");
    assert_eq!((refused, kept.of(&customer, at(5)).await), (Err(CartRefusal::NoSuchLine), before.clone()));
    let open = move |carts: &mut Carts| open(carts, "Default", 9, at(5)).cloned();
    kept.store.change(&customer, at(5), open).await.expect("asked").expect("it is there");
    assert_eq!(kept.of(&customer, at(5)).await, before);

    let delete = |carts: &mut Carts| carts.delete(CartId::new(2).expect("an id"));
    let deleted = kept.store.change(&customer, at(5), delete).await.expect("asked");
    assert_eq!(deleted.map(|cart| cart.lines.len()), Ok(1));
    assert_eq!(kept.owners().await, 0, "who has no carts any more has left no trace");
}

async fn changes_at_the_same_instant_lose_nothing(kept: Kept) {
    let customer = known("k");
    let mut adding = JoinSet::new();
    for number in 0..32 {
        let (store, customer) = (Arc::clone(&kept.store), customer.clone());
        adding.spawn(async move {
            for sku in [format!("own {number:02}"), "shared".to_owned()] {
                add(&store, &customer, "Default", &sku, 3, at(0)).await.expect("written").expect("there is room");
            }
        });
    }
    adding.join_all().await;
    let mut expected: Vec<_> = (0..32).map(|number| (format!("own {number:02}"), 3)).collect();
    expected.push(("shared".to_owned(), 96));
    assert_eq!(kept.amounts(&customer).await, expected);
}

async fn write(database: &Database, statement: &'static str) {
    let written = database.transaction(move |connection| {
        Box::pin(async move { Ok::<_, DatabaseError>(sqlx::query(statement).execute(connection).await?) })
    });
    written.await.expect("written");
}

/// Members of a later release are let be; what no connector wrote is told as such, without being quoted, and can be forgotten.
#[tokio::test]
async fn what_others_wrote_is_read_or_found_wanting() {
    let kept = in_sqlite().await;
    let (database, _) = kept.database.as_ref().expect("a database");
    let customer = known("k");
    kept.add(&customer, "Default", "a", 7, at(0)).await;
    let before = kept.of(&customer, at(0)).await;
    write(database, r#"UPDATE basket SET carts = replace(carts, '{"id"', '{"later": [{}], "id"')"#).await;
    write(database, "ALTER TABLE basket ADD COLUMN later TEXT").await;
    assert_eq!(kept.of(&customer, at(0)).await, before);
    kept.add(&customer, "Default", "a", 1, at(0)).await;
    write(database, "UPDATE basket SET carts = replace(carts, '\"quantity\":8', '\"quantity\":1000')").await;
    let errors = [
        kept.store.of(&customer, at(0)).await.expect_err("it cannot be").to_string(),
        add(&kept.store, &customer, "Default", "a", 1, at(0)).await.expect_err("it cannot be").to_string(),
    ];
    assert!(errors.iter().all(|error| error == "carts unavailable: invalid data in the database: carts"));
    kept.store.forget(kept.store.hash_key.customer(&customer)).await.expect("forgotten");
    assert!(kept.of(&customer, at(0)).await.is_empty());
}

/// However long it takes to change a cart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_waits_for_a_cart() {
    let folder = tempfile::tempdir().expect("a folder");
    let location = Location::Sqlite(folder.path().join("c.db"));
    let database = Database::open(&location, None).await.expect("opened");
    let carts = CartStore::in_database(database.open_carts(&location).await.expect("opened"), 1000);
    let ledger = Ledger::Sql(SqlLedger::open(database, LIMITS).await.expect("opened"));
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (end, ended) = std::sync::mpsc::channel();
    let changing = tokio::spawn(async move {
        let customer = Customer::Anonymous(anonymous_id(7));
        let change = carts.change(&customer, at(0), move |_| {
            let _ = begin.send(());
            let _ = ended.recv(); // its transaction is under way
            Ok(())
        });
        change.await.expect("written").expect("there is room");
    });
    begun.await.expect("begun");
    let recorded = ledger.record(accepted(0, Entry), at(0), far_deadline()).await;
    assert!(matches!(recorded, Ok(Recorded::New(_))), "{recorded:?}");
    end.send(()).expect("it waits");
    changing.await.expect("changed");
}
