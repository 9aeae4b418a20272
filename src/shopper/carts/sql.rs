//! Carts in a database: one row per owner, locked while it is changed.
//!
//! A change to two owners always locks them in the order of their digests, so that two changes never deadlock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::any::Any;
use sqlx::{AnyConnection, query, query_scalar};

use crate::digest::Digest;
use crate::shopper::carts::rules::{
    ANONYMOUS_LIFETIME, Cart, CartId, CartName, CartRefusal, Carts, Currency, Line, LineId, Market, Quantity, Sku,
};
use crate::shopper::carts::{CartsError, Owner};
use crate::storage::{Database, DatabaseError, Engine, corrupt, from_nanos, to_nanos};

type Result<T, E = DatabaseError> = std::result::Result<T, E>;

/// The maximum number of owners that one transaction deletes, so that other transactions do not wait long for it.
const BATCH: u32 = 100;

/// Carts in a database.
#[derive(Debug)]
pub(super) struct SqlCarts {
    pub(super) database: Database,
    pub(super) anonymous: AnonymousOwners,
}

impl SqlCarts {
    pub(super) fn new(database: Database, max_owners: usize) -> Self {
        Self { database, anonymous: AnonymousOwners::new(max_owners) }
    }

    pub(super) async fn get(&self, owner: Owner, now: DateTime<Utc>) -> Result<Carts, CartsError> {
        let found = self.database.look_up(move |connection| Box::pin(find(connection, owner, now)));
        Ok(found.await?)
    }

    pub(super) async fn change<T, F>(
        &self,
        owner: Owner,
        now: DateTime<Utc>,
        change: F,
    ) -> Result<Result<T, CartRefusal>, CartsError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Carts) -> Result<T, CartRefusal> + Send + 'static,
    {
        let engine = self.database.engine();
        let anonymous = self.anonymous.clone();
        let work = self.database.transaction(move |connection| {
            Box::pin(async move {
                let before = lock(connection, engine, owner, now).await?;
                let (mut after, mut reservation) = (before.clone(), None);
                let mut result = change(&mut after);
                if result.is_ok() && owner.is_anonymous && before.is_empty() && !after.is_empty() {
                    reservation = anonymous.reserve();
                    result = if reservation.is_some() { result } else { Err(CartRefusal::Full) };
                }
                store(connection, owner, &before, if result.is_ok() { &after } else { &before }).await?;
                Ok((result, reservation))
            })
        });
        let (result, _reservation) = work.await?;
        Ok(result)
    }

    pub(super) async fn migrate(
        &self,
        from: Owner,
        to: Owner,
        now: DateTime<Utc>,
    ) -> Result<Result<Carts, CartRefusal>, CartsError> {
        if from == to {
            return Ok(Ok(self.get(to, now).await?));
        }
        let engine = self.database.engine();
        let work = self.database.transaction(move |connection| Box::pin(migrate(connection, engine, from, to, now)));
        Ok(work.await?)
    }

    pub(super) async fn forget(&self, owner: Digest) -> Result<(), CartsError> {
        Ok(self.database.transaction(move |connection| Box::pin(delete(connection, owner))).await?)
    }

    /// Deletes one batch of owners whose carts have all expired, and returns whether there may be more.
    pub(super) async fn sweep_some(&self, now: DateTime<Utc>) -> Result<bool, CartsError> {
        let engine = self.database.engine();
        let swept = self.database.transaction(move |connection| Box::pin(sweep(connection, engine, now)));
        let more = swept.await? == u64::from(BATCH);
        if !more {
            self.anonymous.begin_count();
            self.anonymous.finish_count(self.database.look_up(|connection| Box::pin(count(connection))).await?);
            self.database.truncate_long_log().await;
        }
        Ok(more)
    }
}

async fn find(connection: &mut AnyConnection, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let stored: Option<String> = query_scalar::<Any, _>("SELECT carts FROM basket WHERE owner = $1")
        .bind(owner.digest.as_bytes().as_slice())
        .fetch_optional(connection)
        .await?;
    current(stored, owner, now).await
}

/// Reads and locks an owner's carts: no other transaction can change them until this one ends. Always call [`store`]
/// afterwards.
async fn lock(connection: &mut AnyConnection, engine: Engine, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let statement = match engine {
        // A write transaction in SQLite already excludes all others.
        Engine::Sqlite => return find(connection, owner, now).await,
        // Only a row can be locked, so insert one for an owner without carts. `RETURNING` reads the row as it is after
        // the wait for the lock.
        Engine::Postgres => {
            "INSERT INTO basket (owner, anonymous, carts, changed_at) VALUES ($1, $2, '[]', 0)
             ON CONFLICT (owner) DO UPDATE SET changed_at = basket.changed_at
             RETURNING carts"
        }
    };
    let stored: String = query_scalar::<Any, _>(statement)
        .bind(owner.digest.as_bytes().as_slice())
        .bind(i16::from(owner.is_anonymous))
        .fetch_one(connection)
        .await?;
    current(Some(stored), owner, now).await
}

async fn current(stored: Option<String>, owner: Owner, now: DateTime<Utc>) -> Result<Carts> {
    let Some(text) = stored else { return Ok(Carts::default()) };
    let stored = run_off_worker(text.len(), move || read_carts(&text)).await?;
    Ok(owner.current(stored.ok_or_else(|| corrupt("carts"))?, now))
}

/// Runs small work directly, and large work on a blocking thread, so that scans on the same worker do not wait for it.
async fn run_off_worker<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    const MAX_DIRECT: usize = 8 * 1024;
    if bytes <= MAX_DIRECT {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| DatabaseError::Panicked)
}

/// Writes the carts if they have changed. An owner without carts has no row, so a row that [`lock`] inserted is
/// deleted.
async fn store(connection: &mut AnyConnection, owner: Owner, before: &Carts, after: &Carts) -> Result<()> {
    let Some(changed_at) = after.changed_at() else { return delete(connection, owner.digest).await };
    if after == before {
        return Ok(());
    }
    let text = run_off_worker(after.bytes(), {
        let after = after.clone();
        move || write_carts(&after)
    });
    let text = text.await??;
    query::<Any>(
        "INSERT INTO basket (owner, anonymous, carts, changed_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (owner) DO UPDATE SET carts = excluded.carts, changed_at = excluded.changed_at",
    )
    .bind(owner.digest.as_bytes().as_slice())
    .bind(i16::from(owner.is_anonymous))
    .bind(text)
    .bind(to_nanos(changed_at))
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete(connection: &mut AnyConnection, owner: Digest) -> Result<()> {
    query::<Any>("DELETE FROM basket WHERE owner = $1").bind(owner.as_bytes().as_slice()).execute(connection).await?;
    Ok(())
}

async fn migrate(
    connection: &mut AnyConnection,
    engine: Engine,
    from: Owner,
    to: Owner,
    now: DateTime<Utc>,
) -> Result<Result<Carts, CartRefusal>> {
    let mut owners = [from, to];
    owners.sort_unstable_by_key(|owner| owner.digest);
    let mut locked = Vec::with_capacity(owners.len());
    for owner in owners {
        locked.push((owner, lock(connection, engine, owner, now).await?));
    }
    let carts_of = |whose: Owner| locked.iter().find(|(owner, _)| *owner == whose).map(|(_, carts)| carts.clone());
    let (moving, before) = (carts_of(from).unwrap_or_default(), carts_of(to).unwrap_or_default());
    let mut after = before.clone();
    let merged = after.merge(moving.clone(), now);
    let left = if merged.is_ok() { Carts::default() } else { moving.clone() };
    store(connection, from, &moving, &left).await?;
    store(connection, to, &before, &after).await?;
    Ok(merged.map(|()| after))
}

async fn sweep(connection: &mut AnyConnection, engine: Engine, now: DateTime<Utc>) -> Result<u64> {
    let statement = match engine {
        Engine::Sqlite => {
            "DELETE FROM basket WHERE owner IN
                 (SELECT owner FROM basket WHERE anonymous = 1 AND changed_at <= $1 ORDER BY changed_at LIMIT $2)"
        }
        // Skip rows that another connector has locked.
        Engine::Postgres => {
            "DELETE FROM basket WHERE owner IN
                 (SELECT owner FROM basket WHERE anonymous = 1 AND changed_at <= $1 ORDER BY changed_at LIMIT $2
                  FOR UPDATE SKIP LOCKED)"
        }
    };
    let expired_at = now.checked_sub_signed(ANONYMOUS_LIFETIME).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let swept = query::<Any>(statement).bind(to_nanos(expired_at)).bind(i64::from(BATCH)).execute(connection).await?;
    Ok(swept.rows_affected())
}

async fn count(connection: &mut AnyConnection) -> Result<usize> {
    let count: i64 =
        query_scalar::<Any, _>("SELECT count(*) FROM basket WHERE anonymous = 1").fetch_one(connection).await?;
    usize::try_from(count).map_err(corrupt)
}

impl From<DatabaseError> for CartsError {
    fn from(error: DatabaseError) -> Self {
        Self(error.to_string())
    }
}

/// A cart in the JSON text of its owner's row. Members may be added but never renamed: connectors of two releases read
/// each other's rows.
#[derive(Serialize, Deserialize)]
struct CartDocument {
    id: u64,
    name: String,
    market: String,
    currency: String,
    symbol: String,
    lines: Vec<LineDocument>,
    /// Nanoseconds since 1970.
    changed_at: i64,
}

#[derive(Serialize, Deserialize)]
struct LineDocument {
    id: u64,
    sku: String,
    quantity: u16,
}

/// The carts of an owner's row. `None` for a text that no connector writes.
fn read_carts(text: &str) -> Option<Carts> {
    let carts: Vec<CartDocument> = serde_json::from_str(text).ok()?;
    Carts::from_stored(carts.into_iter().map(cart).collect::<Option<_>>()?)
}

fn write_carts(carts: &Carts) -> Result<String> {
    let carts: Vec<CartDocument> = carts.all().iter().map(CartDocument::from).collect();
    serde_json::to_string(&carts).map_err(|_| corrupt("carts"))
}

impl From<&Cart> for CartDocument {
    fn from(cart: &Cart) -> Self {
        let line = |line: &Line| LineDocument {
            id: line.id.0,
            sku: line.sku.as_str().to_owned(),
            quantity: line.quantity.number(),
        };
        Self {
            id: cart.id.number(),
            name: cart.name.as_str().to_owned(),
            market: cart.market.as_str().to_owned(),
            currency: cart.currency.code().to_owned(),
            symbol: cart.currency.symbol().to_owned(),
            lines: cart.lines.iter().map(line).collect(),
            changed_at: to_nanos(cart.changed_at),
        }
    }
}

fn cart(document: CartDocument) -> Option<Cart> {
    let line = |line: LineDocument| {
        let quantity = Quantity::new(line.quantity.into()).ok()?;
        Some(Line { id: LineId(line.id), sku: Sku::parse(&line.sku).ok()?, quantity })
    };
    Some(Cart {
        id: CartId::new(document.id)?,
        name: CartName::parse(&document.name).ok()?,
        market: Market::parse(&document.market).ok()?,
        currency: Currency::new(&document.currency, &document.symbol).ok()?,
        lines: document.lines.into_iter().map(line).collect::<Option<_>>()?,
        changed_at: from_nanos(document.changed_at),
    })
}

/// The number of anonymous owners, to refuse a new one above the limit without a query for each: the result of the last
/// count plus the owners added since by this connector. It never misses an owner that this connector added. Until the
/// next count it may be too high: an owner added during a count may be counted twice, and a failed insert is counted
/// once.
#[derive(Clone, Debug)]
pub(super) struct AnonymousOwners {
    /// The maximum: clients that can request anonymous tokens could fill the disk otherwise.
    max_owners: usize,
    numbers: Arc<Mutex<Numbers>>,
}

#[derive(Debug, Default)]
struct Numbers {
    counted: usize,
    /// Owners whose first cart is being written.
    reserved: usize,
    /// Owners added since the running count began.
    added_since: usize,
}

/// The reservation of an owner whose first cart is being written. Hold it until the row is visible to a count, or the
/// write has failed.
#[derive(Debug)]
#[must_use]
struct Reservation(AnonymousOwners);

impl AnonymousOwners {
    fn new(max_owners: usize) -> Self {
        Self { max_owners, numbers: Arc::default() }
    }

    pub(super) fn current(&self) -> usize {
        let numbers = self.lock();
        numbers.counted.saturating_add(numbers.reserved)
    }

    /// A reservation for a new owner, unless the limit is reached.
    fn reserve(&self) -> Option<Reservation> {
        let mut numbers = self.lock();
        if numbers.counted.saturating_add(numbers.reserved) >= self.max_owners {
            return None;
        }
        numbers.reserved = numbers.reserved.saturating_add(1);
        Some(Reservation(self.clone()))
    }

    /// Call before the owners are counted.
    fn begin_count(&self) {
        self.lock().added_since = 0;
    }

    /// Call with the result of the count. Owners whose reservation was open when the count began may or may not be in
    /// it.
    fn finish_count(&self, count: usize) {
        let mut numbers = self.lock();
        numbers.counted = count.saturating_add(numbers.added_since);
    }

    /// No code under this lock can panic, so ignore poisoning.
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation {
    /// Counts the owner even if the write failed: after a timeout the result is unknown.
    fn drop(&mut self) {
        let mut numbers = self.0.lock();
        numbers.reserved = numbers.reserved.saturating_sub(1);
        numbers.counted = numbers.counted.saturating_add(1);
        numbers.added_since = numbers.added_since.saturating_add(1);
    }
}

/// Rows of other releases, and a change that takes long. `tests/it/shopper/carts.rs` tests what is stored.
#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::digest::HashKey;
    use crate::domain::customer::Customer;
    use crate::domain::ids::{Issuer, SubjectId};
    use crate::domain::scan::Location::Entry;
    use crate::ledger::tests::{LIMITS, accepted, far_deadline};
    use crate::ledger::{Ledger, Recorded, SqlLedger};
    use crate::shopper::carts::CartStore;
    use crate::storage::Location;

    /// The handles of the ledger and of the carts on a new database.
    async fn databases() -> ([Database; 2], TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let location = Location::Sqlite(folder.path().join("c.db"));
        let ledger = Database::open(&location, Some(HashKey::new(&[1; 32]))).await.expect("the database opens");
        let carts = ledger.open_carts().await.expect("the database opens");
        ([ledger, carts], folder)
    }

    fn customer() -> Customer {
        let issuer = Issuer::parse("https://issuer.example").expect("an issuer");
        Customer::Known { issuer, subject: SubjectId::parse("k").expect("a subject") }
    }

    async fn add(carts: &CartStore, pieces: u64) -> std::result::Result<(), CartsError> {
        let now = DateTime::UNIX_EPOCH;
        let change = move |carts: &mut Carts| {
            let (name, id) = (CartName::parse("Default")?, CartId::new(1).expect("an id"));
            carts.open(name, Market::parse("DE")?, Currency::new("EUR", "€")?, id, now)?;
            carts.add_lines(id, vec![(Sku::parse("a")?, Quantity::new(pieces)?)], now).map(drop)
        };
        carts.change(&customer(), now, change).await.map(|changed| changed.expect("within the limits"))
    }

    async fn write(database: &Database, statement: &'static str) {
        let written = database.transaction(move |connection| {
            Box::pin(async move { Ok::<_, DatabaseError>(query::<Any>(statement).execute(connection).await?) })
        });
        written.await.expect("the carts are written");
    }

    /// JSON members and columns added by a later release are ignored. An invalid row is an error that does not quote
    /// it, and it can be deleted.
    #[tokio::test]
    async fn row_of_a_later_release_is_read_and_an_invalid_row_is_an_error() {
        let ([_, database], _folder) = databases().await;
        let carts = CartStore::in_database(database.clone(), 1000);
        let get = async || carts.get(&customer(), DateTime::UNIX_EPOCH).await;
        add(&carts, 7).await.expect("the carts are written");
        let before = get().await.expect("the carts are read");
        write(&database, r#"UPDATE basket SET carts = replace(carts, '{"id"', '{"later": [{}], "id"')"#).await;
        write(&database, "ALTER TABLE basket ADD COLUMN later TEXT").await;
        assert_eq!(get().await.expect("the carts are read"), before);
        add(&carts, 1).await.expect("the carts are written");
        write(&database, "UPDATE basket SET carts = replace(carts, '\"quantity\":8', '\"quantity\":1000')").await;
        let errors =
            [get().await.map(drop), add(&carts, 1).await].map(|result| result.expect_err("the row is invalid"));
        assert!(
            errors.iter().all(|error| error.to_string() == "carts unavailable: invalid data in the database: carts")
        );
        carts.forget(database.hash_key().customer(&customer())).await.expect("the owner is deleted");
        assert!(get().await.expect("the carts are read").is_empty());
    }

    /// A change to carts, however long, does not delay the ledger.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn recording_does_not_wait_for_a_change_to_carts() {
        let ([ledger, carts], _folder) = databases().await;
        let carts = CartStore::in_database(carts, 1000);
        let ledger = Ledger::Sql(SqlLedger::open(ledger, LIMITS).await.expect("the ledger opens"));
        let (begin, begun) = tokio::sync::oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel();
        let changing = tokio::spawn(async move {
            let change = move |_: &mut Carts| {
                let _ = begin.send(());
                let _ = ended.recv(); // the transaction is open
                Ok(())
            };
            carts
                .change(&customer(), DateTime::UNIX_EPOCH, change)
                .await
                .expect("the carts are written")
                .expect("within the limits");
        });
        begun.await.expect("the change begins");
        let recorded = ledger.record(accepted(0, Entry), DateTime::UNIX_EPOCH, far_deadline()).await;
        assert!(matches!(recorded, Ok(Recorded::New(_))), "{recorded:?}");
        end.send(()).expect("the change is waiting");
        changing.await.expect("the change ends");
    }
}

#[cfg(test)]
mod bounds {
    use proptest::prelude::*;

    use super::*;

    fn texts(characters: &'static str) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(characters.chars().collect::<Vec<_>>()), 1..10)
            .prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn text_is_no_longer_than_its_bound(
            carts in proptest::collection::btree_map(texts("a\"\\é€𝄞"), proptest::collection::btree_set(texts("a\"\\ ~"), 0..20), 0..5),
            id in 1..u64::MAX >> 11,
        ) {
            let mut owned = Carts::default();
            for (name, skus) in carts {
                let (market, currency) = (Market::parse(&name).unwrap(), Currency::new("EUR", "€").unwrap());
                let name = CartName::parse(&name).unwrap();
                let now = from_nanos(i64::MAX);
                let id = owned.open(name, market, currency, CartId::new(id).unwrap(), now).unwrap().id;
                let lines = skus.iter().map(|sku| (Sku::parse(sku).unwrap(), Quantity::MAX)).collect();
                owned.add_lines(id, lines, now).unwrap();
            }
            prop_assert!(write_carts(&owned).unwrap().len() <= owned.bytes().saturating_add(2), "the bound and the list's brackets");
            prop_assert_eq!(read_carts(&write_carts(&owned).unwrap()), Some(owned));
        }
    }

    #[test]
    fn counting_owners_never_exceeds_the_limit() {
        let owners = AnonymousOwners::new(3);
        let first = owners.reserve().expect("below the limit");
        owners.begin_count();
        owners.finish_count(0); // the cart was not visible yet
        drop(first);
        assert_eq!(owners.current(), 1);

        owners.begin_count();
        drop(owners.reserve().expect("below the limit"));
        owners.finish_count(1); // a count that did not see the second
        assert_eq!(owners.current(), 2);

        let third = owners.reserve().expect("below the limit");
        assert!(owners.reserve().is_none(), "one is reserved");
        drop(third);
        assert!(owners.reserve().is_none());

        owners.begin_count();
        owners.finish_count(2); // one write had failed
        let again = owners.reserve().expect("below the limit");
        drop(again);
        assert_eq!(owners.current(), 3);
    }
}
