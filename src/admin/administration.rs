//! The use cases of administration: changing the directory, and erasing a shopper. Knows nothing of HTTP.
//!
//! Erasing a shopper replaces their id in the ledger twice. A scan that found the shopper before the erasure may be
//! recorded after it, by this connector or, if the database is shared, by another one that does not know of the erasure
//! yet. So the ledger is erased immediately, and again when no such scan can be in progress any longer. Erasing is done
//! only after the second time; a caller without a successful answer must repeat the call.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use crate::admin::AdminError;
use crate::clock::Clock;
use crate::digest::Digest;
use crate::directory::{Change, Directory, Outcome};
use crate::domain::ids::VisitorId;
use crate::ledger::Ledger;
use crate::shopper::carts::CartStore;

/// The longest time from finding a scan's shopper to the end of its recording: 1.5 s until recording begins, and time
/// to record.
const MAX_SCAN_TIME: Duration = Duration::from_secs(3);

/// The parts that administration uses. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Administration {
    /// Stores, shoppers, keys, tokens and customers.
    pub directory: Arc<Directory>,
    pub carts: Arc<CartStore>,
    /// Decisions and sessions.
    pub ledger: Arc<Ledger>,
    pub clock: Clock,
}

impl Administration {
    /// Applies a change. Succeeds also if the change was applied before.
    pub(crate) async fn change(&self, change: Change) -> Result<(), AdminError> {
        let outcomes = self.directory.apply(vec![change], self.clock.now()).await?;
        match outcomes.first() {
            Some(Outcome::Refused(refusal)) => Err((*refusal).into()),
            _ => Ok(()),
        }
    }

    /// Removes the link between a customer and their shopper, and deletes the customer's carts.
    pub(crate) async fn unlink(&self, customer: Digest) -> Result<(), AdminError> {
        self.carts.forget(customer).await?;
        self.change(Change::UnlinkCustomer(customer)).await
    }

    /// Erases a shopper: deletes them from the directory with their keys, tokens, customers and carts, and replaces
    /// their id in the ledger with a pseudonym. Calling it again completes an erasure that failed half way. An unknown
    /// shopper is no error.
    ///
    /// Takes seconds. Continues when the caller stops waiting.
    pub(crate) async fn erase(&self, shopper: VisitorId) -> Result<(), AdminError> {
        let administration = self.clone();
        let erased = tokio::spawn(async move { administration.erase_everywhere(&shopper).await }).await;
        // The panic message is left out, since it may quote personal data.
        erased.map_err(|_| AdminError::Internal { reason: "panic", cause: "erasing panicked".to_owned() })?
    }

    async fn delete_carts(&self, customers: &[Digest]) -> Result<(), AdminError> {
        for customer in customers {
            self.carts.forget(*customer).await?;
        }
        Ok(())
    }

    async fn erase_everywhere(&self, shopper: &VisitorId) -> Result<(), AdminError> {
        let pseudonym = self.directory.hash_key().pseudonym(shopper);
        // First, while the directory still knows the shopper's customers.
        let customers = self.directory.customers_of(shopper).await?;
        self.delete_carts(&customers).await?;
        let erase = Change::EraseShopper { id: shopper.clone(), pseudonym: pseudonym.clone() };
        // An unknown shopper does not end the erasure here: an earlier call may have failed before it reached the
        // ledger.
        self.directory.apply(vec![erase], self.clock.now()).await?;
        self.ledger.erase(shopper, &pseudonym).await?;
        sleep(MAX_SCAN_TIME.saturating_add(self.directory.max_staleness())).await;
        self.ledger.erase(shopper, &pseudonym).await?;
        self.delete_carts(&customers).await?;
        // Other connectors may have the shopper's records in their caches.
        self.directory.announce_erasure().await?;
        self.ledger.purge().await?;
        self.carts.purge().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::clock::ManualClock;
    use crate::digest::HashKey;
    use crate::domain::customer::Customer;
    use crate::domain::decision::Decision;
    use crate::domain::ids::{Issuer, SubjectId};
    use crate::domain::scan::Location;
    use crate::ledger::{
        Limits, MemoryLedger,
        tests::{accepted, far_deadline},
    };
    use crate::shopper::carts::rules::{CartId, CartName, Carts, Currency, Market};

    fn administration() -> Administration {
        let limits =
            Limits { retention: TimeDelta::days(7), capacity: 10, cache: 0, session_max_age: TimeDelta::hours(24) };
        let hash_key = HashKey::new(&[0; 32]);
        Administration {
            directory: Arc::new(Directory::in_memory(hash_key.clone())),
            carts: Arc::new(CartStore::in_memory(hash_key, 10)),
            ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits))),
            clock: Clock::Manual(ManualClock::starting_at(DateTime::UNIX_EPOCH)),
        }
    }

    fn begin_erasing(administration: &Administration, shopper: VisitorId) -> JoinHandle<Result<(), AdminError>> {
        let administration = administration.clone();
        tokio::spawn(async move { administration.erase(shopper).await })
    }

    /// The clock is paused and jumps to the next timer.
    #[tokio::test(start_paused = true)]
    async fn scan_recorded_during_an_erasure_is_erased_too() {
        let administration = administration();
        let entry = accepted(0, Location::Entry);
        let Decision::Accepted(grant) = &entry.decision else { panic!("it is accepted") };
        let shopper = grant.visitor.id.clone();
        let erasing = begin_erasing(&administration, shopper.clone());
        sleep(Duration::from_secs(2)).await; // the ledger has been erased for the first time
        assert!(!erasing.is_finished());
        administration
            .ledger
            .record(entry, DateTime::UNIX_EPOCH, far_deadline())
            .await
            .expect("the decision is recorded");
        erasing.await.expect("no panic").expect("the shopper is erased");
        let decisions = administration.ledger.decisions(None, 10).await.expect("a list").rows;
        let sessions = administration.ledger.sessions(None, 10, DateTime::UNIX_EPOCH).await.expect("a list").rows;
        assert_eq!((decisions.len(), sessions.len()), (1, 1));
        let all = format!("{decisions:?} {sessions:?}");
        assert!(!all.contains(&format!("{shopper:?}")) && all.contains("erased-"), "{all}");
    }

    /// An app whose token is still valid can fill a cart again while its customer is erased.
    #[tokio::test(start_paused = true)]
    async fn cart_filled_during_an_erasure_is_deleted_too() {
        let (administration, now) = (administration(), DateTime::UNIX_EPOCH);
        let customer = Customer::Known {
            issuer: Issuer::parse("https://login.example.com").expect("an issuer"),
            subject: SubjectId::parse("s").expect("a subject"),
        };
        let shopper = VisitorId::parse("v").expect("an id");
        administration.directory.link_or_create(&customer, shopper.clone(), now).await.expect("the customer is linked");
        let erasing = begin_erasing(&administration, shopper);
        sleep(Duration::from_secs(2)).await; // the ledger has been erased for the first time
        let (name, market) = (CartName::parse("Default").expect("a name"), Market::parse("DE").expect("a market"));
        let currency = Currency::new("EUR", "€").expect("a currency");
        let open = move |carts: &mut Carts| {
            carts.open(name, market, currency, CartId::from_random_bytes([1; 8]), now).map(drop)
        };
        administration
            .carts
            .change(&customer, now, open)
            .await
            .expect("the carts are written")
            .expect("within the limits");
        erasing.await.expect("no panic").expect("the shopper is erased");
        assert!(administration.carts.get(&customer, now).await.expect("the carts are read").is_empty());
    }
}
