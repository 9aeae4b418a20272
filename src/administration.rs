//! What an administrator does: changes who is known, and erases who is not to be. Knows no HTTP.
//!
//! Erasing takes two looks. A scan that had found its shopper before they were erased may be recorded after it, here or, where the
//! directory is shared, at a connector that has not heard of it; so the ledger is gone through once at once, and once more when nothing
//! can be under way any longer. Only then is it done: whoever was not told so asks again.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use thiserror::Error;
use tokio::time::sleep;

use crate::carts::{CartStore, CartsError};
use crate::clock::Clock;
use crate::digest::Digest;
use crate::directory::{Change, Directory, DirectoryError, Outcome, Refusal};
use crate::domain::ids::VisitorId;
use crate::ledger::{Ledger, LedgerError};

/// For how long a scan may be under way once it has found its shopper: 1.5 s until its recording begins, and what that takes.
const UNDER_WAY: Duration = Duration::from_secs(3);

/// How many letters and digits a secret has that is made here: as many as a recognition token.
const SECRET_LENGTH: usize = 32;

/// Why something was not done.
#[derive(Debug, Error)]
pub enum AdministrationError {
    /// It cannot be.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// The directory could not tell or could not be changed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The ledger could not tell or could not be written.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The carts could not be dropped.
    #[error(transparent)]
    Carts(#[from] CartsError),
    /// It panicked. What it choked on is not repeated.
    #[error("erasing panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// What an administrator works on: clones share it.
#[derive(Clone, Debug)]
pub struct Administration {
    /// Who is known.
    pub directory: Arc<Directory>,
    /// What customers have in their carts.
    pub carts: Arc<CartStore>,
    /// What was decided.
    pub ledger: Arc<Ledger>,
    /// The time.
    pub clock: Clock,
}

impl Administration {
    /// Makes a change, or says why it cannot be. What was so before is fine.
    ///
    /// # Errors
    /// When it cannot be, or the directory cannot be changed.
    pub async fn change(&self, change: Change) -> Result<(), AdministrationError> {
        let outcomes = self.directory.apply(vec![change], self.clock.now()).await?;
        match outcomes.first() {
            Some(Outcome::Refused(refusal)) => Err(AdministrationError::Refused(*refusal)),
            _ => Ok(()),
        }
    }

    /// From now on a customer is no shopper, and has nothing in their carts.
    ///
    /// # Errors
    /// When they were none before, or that could not be done.
    pub async fn unlink(&self, customer: Digest) -> Result<(), AdministrationError> {
        self.carts.forget(customer).await?;
        self.change(Change::UnlinkCustomer(customer)).await
    }

    /// Takes a shopper out of the directory, with all that stands for them and what they have in their carts, and puts a pseudonym wherever the ledger names them. Done
    /// again, it does what is left to do, and is as well for somebody who was never there.
    ///
    /// It takes seconds, and is done even if nobody waits for it.
    ///
    /// # Errors
    /// When some of it could not be done.
    pub async fn erase(&self, shopper: VisitorId) -> Result<(), AdministrationError> {
        let administration = self.clone();
        tokio::spawn(async move { administration.erase_for_good(&shopper).await }).await?
    }

    async fn forget_carts(&self, customers: &[Digest]) -> Result<(), AdministrationError> {
        for customer in customers {
            self.carts.forget(*customer).await?;
        }
        Ok(())
    }

    async fn erase_for_good(&self, shopper: &VisitorId) -> Result<(), AdministrationError> {
        let pseudonym = self.directory.hash_key().pseudonym(shopper);
        // First, while it is known whose they are.
        let customers = self.directory.customers_of(shopper).await?;
        self.forget_carts(&customers).await?;
        let erase = Change::EraseShopper { id: shopper.clone(), pseudonym: pseudonym.clone() };
        // That they are not there does not say that the ledger has been gone through.
        self.directory.apply(vec![erase], self.clock.now()).await?;
        self.ledger.erase(shopper, &pseudonym).await?;
        sleep(UNDER_WAY.saturating_add(self.directory.max_staleness())).await;
        self.ledger.erase(shopper, &pseudonym).await?;
        self.forget_carts(&customers).await?;
        // Others may remember what they read or recorded meanwhile.
        self.directory.announce_erasure().await?;
        self.ledger.purge().await?;
        self.carts.purge().await?;
        Ok(())
    }
}

/// A new secret of letters and digits, from the operating system's randomness: fit for a recognition token.
///
/// # Errors
/// When the operating system has none to give.
pub fn new_secret() -> Result<SecretString, getrandom::Error> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut secret = String::with_capacity(SECRET_LENGTH);
    let mut bytes = [0; SECRET_LENGTH];
    while secret.len() < SECRET_LENGTH {
        getrandom::fill(&mut bytes)?;
        // Six bits choose among 64; two of those stand for nothing, so that all others are as likely.
        let drawn = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        let missing = SECRET_LENGTH.saturating_sub(secret.len());
        secret.extend(drawn.take(missing).copied().map(char::from));
    }
    Ok(secret.into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use chrono::{DateTime, TimeDelta};
    use secrecy::ExposeSecret;

    use super::*;
    use crate::clock::ManualClock;
    use crate::digest::HashKey;
    use crate::domain::cart::{CartId, CartName, Carts, Currency, Market};
    use crate::domain::customer::Customer;
    use crate::domain::decision::Decision;
    use crate::domain::ids::{Issuer, SubjectId};
    use crate::domain::scan::Location;
    use crate::ledger::{
        Limits, MemoryLedger,
        tests::{accepted, soon},
    };

    /// On a paused clock, which leaps to the next thing that is waited for.
    #[tokio::test(start_paused = true)]
    async fn what_is_recorded_while_somebody_is_erased_names_them_no_more_afterwards() {
        let limits =
            Limits { retention: TimeDelta::days(7), capacity: 10, cache: 0, session_max_age: TimeDelta::hours(24) };
        let administration = Administration {
            directory: Arc::new(Directory::in_memory(HashKey::new(&[0; 32]))),
            carts: Arc::new(CartStore::in_memory(HashKey::new(&[0; 32]), 1)),
            ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits))),
            clock: Clock::Manual(ManualClock::starting_at(DateTime::UNIX_EPOCH)),
        };
        let entry = accepted(0, Location::Entry);
        let Decision::Accepted(grant) = &entry.decision else { panic!("it is accepted") };
        let shopper = grant.visitor.id.clone();
        let erasing = tokio::spawn({
            let (administration, shopper) = (administration.clone(), shopper.clone());
            async move { administration.erase(shopper).await }
        });
        sleep(Duration::from_secs(2)).await; // the first look is over
        assert!(!erasing.is_finished());
        administration.ledger.record(entry, DateTime::UNIX_EPOCH, soon()).await.expect("recorded");
        erasing.await.expect("no panic").expect("erased");
        let decisions = administration.ledger.decisions(None, 10).await.expect("a list").decisions;
        let sessions = administration.ledger.sessions(None, 10, DateTime::UNIX_EPOCH).await.expect("a list").sessions;
        assert_eq!((decisions.len(), sessions.len()), (1, 1));
        let all = format!("{decisions:?} {sessions:?}");
        assert!(!all.contains(&format!("{shopper:?}")) && all.contains("erased-"), "{all}");
    }

    /// A token that still holds can fill a cart again while its customer is erased.
    #[tokio::test(start_paused = true)]
    async fn what_is_put_into_a_cart_while_somebody_is_erased_is_gone_afterwards() {
        let limits =
            Limits { retention: TimeDelta::days(7), capacity: 10, cache: 0, session_max_age: TimeDelta::hours(24) };
        let (hash_key, now) = (HashKey::new(&[0; 32]), DateTime::UNIX_EPOCH);
        let administration = Administration {
            directory: Arc::new(Directory::in_memory(hash_key.clone())),
            carts: Arc::new(CartStore::in_memory(hash_key, 10)),
            ledger: Arc::new(Ledger::Memory(MemoryLedger::new(limits))),
            clock: Clock::Manual(ManualClock::starting_at(now)),
        };
        let customer = Customer::Known {
            issuer: Issuer::parse("https://login.example.com").expect("an issuer"),
            subject: SubjectId::parse("s").expect("a subject"),
        };
        let shopper = VisitorId::parse("v").expect("an id");
        administration.directory.link_or_create(&customer, shopper.clone(), now).await.expect("linked");
        let erasing = tokio::spawn({
            let administration = administration.clone();
            async move { administration.erase(shopper).await }
        });
        sleep(Duration::from_secs(2)).await; // the first look is over
        let (name, market) = (CartName::parse("Default").expect("a name"), Market::parse("DE").expect("a market"));
        let currency = Currency::new("EUR", "€").expect("a currency");
        let open = move |carts: &mut Carts| {
            carts.open(name, market, currency, CartId::from_random_bytes([1; 8]), now).map(drop)
        };
        administration.carts.change(&customer, now, open).await.expect("written").expect("there is room");
        erasing.await.expect("no panic").expect("erased");
        assert!(administration.carts.of(&customer, now).await.expect("read").is_empty());
    }

    #[test]
    fn a_secret_is_32_letters_and_digits_all_of_which_occur() {
        let secrets: Vec<_> = (0..200).map(|_| new_secret().expect("randomness")).collect();
        for secret in &secrets {
            let secret = secret.expose_secret();
            assert!(secret.len() == 32 && secret.chars().all(|c| c.is_ascii_alphanumeric()));
        }
        let characters: HashSet<char> = secrets.iter().flat_map(|secret| secret.expose_secret().chars()).collect();
        let different: HashSet<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!((characters.len(), different.len()), (62, 200));
    }
}
