//! Look-ups and changes for shopper apps: the shopper of a customer, and a recognition token for the app's next code.
//!
//! They use database connections of their own, so that they cannot delay a gate, and never a cache.

use chrono::{DateTime, Utc};

use super::change::{Issued, IssuedToken, Profile};
use super::{Backend, Directory, DirectoryError};
use crate::domain::customer::Customer;
use crate::domain::ids::VisitorId;
use crate::domain::store::ScanKeyWindow;

impl Directory {
    /// The current row of the shopper that a customer is linked to, with their devices.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn shopper_of(&self, customer: &Customer) -> Result<Option<Profile>, DirectoryError> {
        self.inject_fault().await?;
        let customer = self.hash_key.customer(customer);
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.shopper_of(customer)),
            Backend::Sql(directory) => directory.shopper_of(customer).await,
        }
    }

    /// The shopper that a customer is linked to. If there is none, creates the shopper `new`, with an active account
    /// and nothing else, and links the customer to it. Concurrent calls for one customer all return the same shopper,
    /// also at other connectors.
    ///
    /// # Errors
    /// When the directory cannot be read or changed, or the shopper id `new` is already in use.
    pub async fn link_or_create(
        &self,
        customer: &Customer,
        new: VisitorId,
        now: DateTime<Utc>,
    ) -> Result<VisitorId, DirectoryError> {
        self.inject_fault().await?;
        let customer = self.hash_key.customer(customer);
        match &self.backend {
            Backend::Memory(directory) => directory.link_or_create(customer, new, now),
            Backend::Sql(directory) => directory.link_or_create(customer, new, now).await,
        }
    }

    /// Issues a recognition token for a shopper, and for one of their devices if the token names one. It is unknown
    /// once it has expired. A shopper has at most `at_most` issued tokens (1 or more): the oldest are deleted first.
    /// Issued tokens are in no list, no export and no audit log.
    ///
    /// Refused when there is no such shopper, or the device is not one of the shopper's.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub async fn issue(
        &self,
        token: IssuedToken,
        at_most: usize,
        now: DateTime<Utc>,
    ) -> Result<Issued, DirectoryError> {
        self.inject_fault().await?;
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.issue(token, at_most, now)),
            Backend::Sql(directory) => directory.issue(token, at_most, now).await,
        }
    }

    /// The shortest Scan Key Code window of all enabled stores: a younger code is valid at every store. `None` without
    /// an enabled store.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn shortest_window(&self) -> Result<Option<ScanKeyWindow>, DirectoryError> {
        self.inject_fault().await?;
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.shortest_window()),
            Backend::Sql(directory) => directory.shortest_window().await,
        }
    }
}
