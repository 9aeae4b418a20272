//! What the apps of shoppers ask for: who a customer is, and a token for the code that they are to show. No gate waits for it, so it has
//! connections of its own and is never answered from what was read before.

use chrono::{DateTime, Utc};

use super::change::{Issued, IssuedToken, Profile};
use super::{Backend, Directory, DirectoryError};
use crate::domain::customer::Customer;
use crate::domain::ids::VisitorId;
use crate::domain::store::ScanKeyWindow;

impl Directory {
    /// The shopper that a customer is, as they stand now, with their devices: for their app, which no gate waits for.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn shopper_of(&self, customer: &Customer) -> Result<Option<Profile>, DirectoryError> {
        self.apply_fault().await?;
        let customer = self.hash_key.customer(customer);
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.shopper_of(customer)),
            Backend::Sql(directory) => directory.shopper_of(customer).await,
        }
    }

    /// The shopper that a customer is or, where they are none yet, `new`: a shopper with an active account and nothing else, who is
    /// them from now on. Of several at the same instant, at other connectors too, all get the same.
    ///
    /// # Errors
    /// When the directory cannot tell or cannot be changed, or there is a shopper `new` already: the id must be unused.
    pub async fn link_or_create(
        &self,
        customer: &Customer,
        new: VisitorId,
        now: DateTime<Utc>,
    ) -> Result<VisitorId, DirectoryError> {
        self.apply_fault().await?;
        let customer = self.hash_key.customer(customer);
        match &self.backend {
            Backend::Memory(directory) => directory.link_or_create(customer, new, now),
            Backend::Sql(directory) => directory.link_or_create(customer, new, now).await,
        }
    }

    /// Has a new recognition token stand for its shopper, and for that device of theirs, until it expires, when it counts as not there.
    /// A shopper has `at_most` of these, 1 or more: the oldest go for it. It stands in no list, no export and no audit.
    ///
    /// It is refused when the shopper is not there, or the device is none of theirs.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub async fn issue(
        &self,
        token: IssuedToken,
        at_most: usize,
        now: DateTime<Utc>,
    ) -> Result<Issued, DirectoryError> {
        self.apply_fault().await?;
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.issue(token, at_most, now)),
            Backend::Sql(directory) => directory.issue(token, at_most, now).await,
        }
    }

    /// The shortest time for which a Scan Key Code is valid at any of the enabled stores, if there is one: a code that is younger passes
    /// at all of them.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn shortest_window(&self) -> Result<Option<ScanKeyWindow>, DirectoryError> {
        self.apply_fault().await?;
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.shortest_window()),
            Backend::Sql(directory) => directory.shortest_window().await,
        }
    }
}
