//! Rows of other releases, and a change that takes long. `tests/it/shopper/carts.rs` tests what is stored.

use tempfile::TempDir;

use crate::digest::HashKey;
use crate::domain::customer::Customer;
use crate::domain::ids::{Issuer, SubjectId};
use crate::domain::scan::Location::Entry;
use crate::ledger::tests::{LIMITS, accepted, far_deadline};
use crate::ledger::{Ledger, Recorded, SqlLedger};
use crate::shopper::carts::CartStore;
use crate::shopper::carts::rules::{CartId, CartName, Currency, Market, Quantity, Sku};
use crate::shopper::carts::sql::*;
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

/// JSON members and columns added by a later release are ignored. An invalid row is an error that does not quote it,
/// and it can be deleted.
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
    let errors = [get().await.map(drop), add(&carts, 1).await].map(|result| result.expect_err("the row is invalid"));
    assert!(errors.iter().all(|error| error.to_string() == "carts unavailable: invalid data in the database: carts"));
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
