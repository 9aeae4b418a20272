//! Changes of the directory, and their outcomes.

use chrono::{DateTime, Utc};

use super::model::{Kind, Link, Profile};
use crate::digest::Digest;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::store::Store;
use crate::domain::visitor::Account;

/// One change. The changes of a list are made in one transaction; refused changes are left out.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds a store, or replaces the store with this id.
    PutStore(Store),
    /// Deletes a store.
    DeleteStore(StoreId),
    /// Adds a shopper, or replaces the shopper with this id. Keys and tokens lose a device that the shopper no longer
    /// has; issued tokens for such a device are deleted.
    PutShopper(Profile),
    /// Flags or unflags an account.
    SetAccount(VisitorId, Account),
    /// Deletes a shopper with their keys, tokens, devices and customer links, and replaces their id in the audit log by
    /// a pseudonym.
    EraseShopper {
        /// The shopper.
        id: VisitorId,
        /// The id that replaces the shopper's.
        pseudonym: VisitorId,
    },
    /// Adds a key or token, or replaces what it is registered with.
    PutRegistration(Kind, Digest, Link),
    /// Revokes a key or token: a scan with it is refused as invalid.
    Revoke(Kind, Digest),
    /// Deletes a key or token: a scan with it is refused as not found.
    DeleteRegistration(Kind, Digest),
    /// Links the customer with this digest to a shopper, replacing an existing link.
    LinkCustomer(Digest, VisitorId),
    /// Deletes the link of the customer with this digest.
    UnlinkCustomer(Digest),
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The row was added, changed or deleted.
    Changed,
    /// The row already had these values.
    Unchanged,
    /// The change was not made.
    Refused(Refusal),
}

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no row with this id.
    NotFound,
    /// The key, token or customer names a shopper that does not exist.
    UnknownShopper,
    /// The key or token names a device that is not one of the shopper's.
    UnknownDevice,
}

/// A recognition token that is issued for one code of an app, and expires soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token's digest.
    pub digest: Digest,
    /// The shopper that it identifies.
    pub shopper: VisitorId,
    /// The device that it identifies.
    pub device: Option<DeviceId>,
    /// The time until which the app was told that its code is valid.
    pub promised_until: DateTime<Utc>,
    /// When the token becomes unknown.
    pub expires_at: DateTime<Utc>,
}

/// The outcome of issuing a recognition token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// The token is valid until it expires.
    Done,
    /// The token was not issued.
    Refused(Refusal),
}

/// An entry of the audit log: one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Increases with every entry.
    pub id: i64,
    /// The time of the change, by the connector's clock.
    pub at: DateTime<Utc>,
    /// The action: `put`, `deleted`, `flagged`, `unflagged`, `revoked` or `erased`.
    pub action: String,
    /// The kind of the row: `store`, `shopper`, `identity_key`, `recognition_token` or `customer`.
    pub kind: String,
    /// The id of the row, or its digest in hexadecimal.
    pub subject: String,
}

impl Change {
    /// The `action`, `kind` and `subject` of its audit entry.
    pub(super) fn audit(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::PutStore(store) => ("put", "store", store.id.as_str().to_owned()),
            Self::DeleteStore(id) => ("deleted", "store", id.as_str().to_owned()),
            Self::PutShopper(profile) => ("put", "shopper", profile.shopper.visitor.id.as_str().to_owned()),
            Self::SetAccount(id, Account::Flagged) => ("flagged", "shopper", id.as_str().to_owned()),
            Self::SetAccount(id, Account::Active) => ("unflagged", "shopper", id.as_str().to_owned()),
            Self::EraseShopper { pseudonym, .. } => ("erased", "shopper", pseudonym.as_str().to_owned()),
            Self::PutRegistration(kind, digest, _) => put_registration(*kind, digest),
            Self::Revoke(kind, digest) => ("revoked", kind.as_str(), digest.to_hex()),
            Self::DeleteRegistration(kind, digest) => ("deleted", kind.as_str(), digest.to_hex()),
            Self::LinkCustomer(digest, _) => ("put", "customer", digest.to_hex()),
            Self::UnlinkCustomer(digest) => ("deleted", "customer", digest.to_hex()),
        }
    }
}

/// The audit entry for a changed key or token.
pub(super) fn put_registration(kind: Kind, digest: &Digest) -> (&'static str, &'static str, String) {
    ("put", kind.as_str(), digest.to_hex())
}
