//! What holds wherever carts are kept, in memory and in SQLite; `tests/engines/carts.rs` has what concerns several connectors.

use std::sync::Arc;

use chrono::TimeDelta;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::domain::cart::{Cart, CartId, CartName, Currency, Market, Quantity, Sku};
use crate::domain::ids::{Issuer, SubjectId};
use crate::storage::{DatabaseError, Location};

/// A store, and what it stands on.
struct Kept {
    store: Arc<CartStore>,
    database: Option<(Database, TempDir)>,
}

fn in_memory_for(owners: usize) -> Kept {
    let backend = Backend::Memory(MemoryCarts::new(owners));
    Kept { store: Arc::new(CartStore { backend, hash_key: HashKey::new(&[1; 32]) }), database: None }
}

async fn in_memory() -> Kept {
    Kept { store: Arc::new(CartStore::in_memory(HashKey::new(&[1; 32]))), database: None }
}

async fn in_sqlite() -> Kept {
    let folder = tempfile::tempdir().expect("a folder");
    let database = Database::open(&Location::Sqlite(folder.path().join("c.db")), None).await.expect("opened");
    let store = Arc::new(CartStore::in_database(database.for_shoppers()));
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

async fn carts_move_once_and_later_what_came_since(kept: Kept) {
    let (from, to) = (anonymous(1), known("k"));
    kept.add(&from, "Default", "a", 2, at(0)).await;
    kept.add(&from, "Wishes", "b", 3, at(0)).await;
    kept.add(&to, "Default", "a", 5, at(0)).await;
    for _ in 0..2 {
        let moved = kept.migrate(1, &to, at(1)).await.expect("moved");
        assert_eq!(moved, kept.of(&to, at(1)).await);
        assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 7), ("b".to_owned(), 3)]);
        assert!(kept.of(&from, at(1)).await.is_empty());
        assert_eq!(kept.owners().await, 1);
    }
    kept.add(&from, "Default", "a", 1, at(2)).await;
    kept.migrate(1, &to, at(3)).await.expect("moved");
    assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 8), ("b".to_owned(), 3)]);
    assert!(kept.migrate(2, &known("nobody"), at(3)).await.expect("nothing to move").is_empty());
    assert_eq!(kept.owners().await, 1);
}

/// All of these at the same instant; none is refused.
async fn migrate_at_once(kept: &Kept, moves: Vec<(u8, Customer)>) {
    let mut moving = JoinSet::new();
    for (from, to) in moves {
        let store = Arc::clone(&kept.store);
        moving.spawn(async move { store.migrate(anonymous_id(from), &to, at(1)).await.expect("written") });
    }
    assert!(moving.join_all().await.iter().all(Result::is_ok));
}

async fn carts_that_move_twice_at_the_same_instant_arrive_once(kept: Kept) {
    let to = known("k");
    kept.add(&anonymous(1), "Default", "a", 2, at(0)).await;
    migrate_at_once(&kept, vec![(1, to.clone()); 8]).await;
    assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 2)]);
    assert_eq!(kept.owners().await, 1);
}

async fn carts_of_two_who_are_one_all_arrive(kept: Kept) {
    let to = known("k");
    for from in 1..=8 {
        kept.add(&anonymous(from), "Default", "a", 2, at(0)).await;
        kept.add(&anonymous(from), "Default", &format!("own {from}"), 1, at(0)).await;
    }
    migrate_at_once(&kept, (1..=8).map(|from| (from, to.clone())).collect()).await;
    let mut expected = vec![("a".to_owned(), 16)];
    expected.extend((1..=8).map(|from| (format!("own {from}"), 1)));
    assert_eq!(kept.amounts(&to).await, expected);
    assert_eq!(kept.owners().await, 1);
}

async fn carts_that_move_to_and_fro_are_somewhere(kept: Kept) {
    for round in 0..8 {
        let (one, other) = (round, 100_u8.saturating_add(round));
        kept.add(&anonymous(one), "Default", "a", 2, at(0)).await;
        kept.add(&anonymous(other), "Default", "a", 3, at(0)).await;
        migrate_at_once(&kept, vec![(one, anonymous(other)), (other, anonymous(one))]).await;
        let amounts = [kept.amounts(&anonymous(one)).await, kept.amounts(&anonymous(other)).await].concat();
        assert_eq!(amounts, [("a".to_owned(), 5)]);
    }
}

async fn carts_stay_where_they_are_when_they_move_to_themselves_or_are_refused(kept: Kept) {
    let (from, to) = (anonymous(1), known("k"));
    kept.add(&from, "Default", "a", 500, at(0)).await;
    kept.add(&to, "Default", "a", 500, at(0)).await;
    let before = kept.of(&from, at(1)).await;
    assert_eq!(kept.migrate(1, &from, at(1)).await, Ok(before.clone()));
    assert_eq!(kept.migrate(1, &to, at(1)).await, Err(CartRefusal::TooMuchOfOneSku));
    assert_eq!(kept.of(&from, at(1)).await, before);
    assert_eq!(kept.amounts(&to).await, [("a".to_owned(), 500)]);
}

const MONTH: i64 = 30 * 24;

async fn an_anonymous_cart_ends_after_exactly_30_days(kept: Kept) {
    for customer in [anonymous(1), known("k")] {
        kept.add(&customer, "Default", "a", 2, at(0)).await;
        let just_before = at(MONTH).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
        assert_eq!(kept.of(&customer, just_before).await.all().len(), 1);
        let left = usize::from(!customer.is_anonymous());
        assert_eq!(kept.of(&customer, at(MONTH)).await.all().len(), left);
    }
}

async fn what_has_ended_neither_moves_nor_counts(kept: Kept) {
    let (from, to) = (anonymous(1), known("k"));
    kept.add(&from, "Old", "a", 2, at(0)).await;
    kept.add(&from, "New", "b", 3, at(1)).await;
    let seen = kept.store.change(&from, at(MONTH), |carts| Ok(carts.all().len())).await.expect("asked");
    assert_eq!(seen, Ok(1));
    let moved = kept.migrate(1, &to, at(MONTH)).await.expect("moved");
    assert_eq!(moved.all().iter().map(|cart| cart.name.as_str()).collect::<Vec<_>>(), ["New"]);
    assert_eq!((kept.amounts(&to).await, kept.owners().await), (vec![("b".to_owned(), 3)], 1));
}

async fn a_sweep_lets_go_of_what_has_ended(kept: Kept) {
    kept.add(&known("k"), "Default", "a", 1, at(0)).await;
    // More than one batch; of one of them only one cart has ended.
    for number in 1..=220 {
        kept.add(&anonymous(number), "Default", "a", 1, at(0)).await;
    }
    kept.add(&anonymous(1), "Wishes", "b", 1, at(1)).await;
    let just_before = at(MONTH).checked_sub_signed(TimeDelta::nanoseconds(1)).expect("in range");
    kept.store.sweep(just_before).await.expect("swept");
    assert_eq!(kept.owners().await, 221);
    kept.store.sweep(at(MONTH)).await.expect("swept");
    assert_eq!(kept.owners().await, 2);
    assert_eq!(kept.of(&anonymous(1), at(MONTH)).await.all().len(), 1);
    kept.store.sweep(at(MONTH + 1)).await.expect("swept");
    assert_eq!(kept.owners().await, 1);
    assert_eq!(kept.of(&known("k"), at(MONTH + 1)).await.all().len(), 1);
}

async fn who_is_forgotten_has_no_carts(kept: Kept) {
    for customer in [anonymous(1), known("k"), known("another")] {
        kept.add(&customer, "Default", "a", 1, at(0)).await;
    }
    for customer in [anonymous(1), known("k"), known("k"), known("nobody")] {
        kept.store.forget(&customer).await.expect("forgotten");
        assert!(kept.of(&customer, at(0)).await.is_empty());
    }
    assert_eq!(kept.amounts(&known("another")).await, [("a".to_owned(), 1)]);
    assert_eq!(kept.owners().await, 1);
}

#[tokio::test]
async fn memory_is_for_so_many_owners() {
    let kept = in_memory_for(2);
    for customer in [anonymous(1), anonymous(2)] {
        kept.add(&customer, "Default", "a", 1, at(0)).await;
    }
    let one_more = add(&kept.store, &known("k"), "Default", "a", 1, at(0)).await.expect("asked");
    assert_eq!(one_more.expect_err("there is no room"), CartRefusal::Full);
    assert_eq!(kept.owners().await, 2);
    kept.add(&anonymous(1), "Wishes", "b", 1, at(0)).await;
    assert_eq!(kept.migrate(1, &known("k"), at(0)).await.expect("one takes the other's place").all().len(), 2);
    kept.store.forget(&anonymous(2)).await.expect("forgotten");
    kept.add(&anonymous(3), "Default", "a", 1, at(0)).await;
}

/// In a sweep's second batch as well as in its first.
#[tokio::test]
async fn a_sweep_of_memory_reaches_everybody() {
    let kept = in_memory().await;
    let nobody = |number: u16| {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        Customer::Anonymous(AnonymousId::from_random_bytes(bytes))
    };
    for number in 0..2500 {
        kept.add(&nobody(number), "Default", "a", 1, at(i64::from(number % 2))).await;
    }
    kept.store.sweep(at(MONTH)).await.expect("swept");
    assert_eq!(kept.owners().await, 1250);
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
    assert!(errors.iter().all(|error| error == "carts unavailable: the database holds what cannot be: carts"));
    kept.store.forget(&customer).await.expect("forgotten");
    assert!(kept.of(&customer, at(0)).await.is_empty());
}
