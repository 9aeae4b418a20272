//! What can be changed in the directory, and what came of it.

use chrono::{DateTime, Utc};

use crate::digest::Digest;
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::scan::KeyChannel;
use crate::domain::store::Store;
use crate::domain::visitor::{Account, Shopper, Visitor, VisitorType};

/// One change. Those of a list happen together or not at all, except for what is refused.
#[derive(Clone, Debug)]
pub enum Change {
    /// Adds a store, or puts another in its place.
    PutStore(Store),
    /// Takes a store away: from then on it is unknown.
    DeleteStore(StoreId),
    /// Adds a shopper, or puts another in their place. Keys and tokens that name a device which the shopper has no longer name none from
    /// then on, and tokens that were issued for it are gone.
    PutShopper(Profile),
    /// Holds an account back, or lets it go.
    SetAccount(VisitorId, Account),
    /// Takes a shopper away, with their keys, tokens, devices and customers. Where changes of them are on record, a pseudonym stands.
    EraseShopper {
        /// Who.
        id: VisitorId,
        /// What stands for them from now on.
        pseudonym: VisitorId,
    },
    /// Adds a key or token, or changes for whom and how it stands.
    PutRegistration(Kind, Digest, Link),
    /// From now on it is refused as invalid.
    Revoke(Kind, Digest),
    /// From now on it is unknown.
    DeleteRegistration(Kind, Digest),
    /// The customer of that digest is that shopper, whoever they were before.
    LinkCustomer(Digest, VisitorId),
    /// The customer of that digest is no shopper any more.
    UnlinkCustomer(Digest),
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is so from now on.
    Changed,
    /// It was so before.
    Unchanged,
    /// It cannot be.
    Refused(Refusal),
}

/// Why a change cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing of that name.
    NotFound,
    /// The key, token or customer names a shopper who is not there.
    UnknownShopper,
    /// The key or token names a device that is none of that shopper's.
    UnknownDevice,
}

/// A recognition token that is issued for a short while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedToken {
    /// The token's digest.
    pub digest: Digest,
    /// The shopper for whom it stands.
    pub shopper: VisitorId,
    /// The device that it identifies.
    pub device: Option<DeviceId>,
    /// Until when the app was told that its code is valid.
    pub promised_until: DateTime<Utc>,
    /// From then on the token counts as not there.
    pub expires_at: DateTime<Utc>,
}

/// What came of issuing a recognition token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// It stands for its shopper from now on, until it expires.
    Done,
    /// It cannot.
    Refused(Refusal),
}

/// What stands for a shopper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A badge or a static code.
    IdentityKey,
    /// What a Scan Key Code carries.
    RecognitionToken,
}

impl Kind {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IdentityKey => "identity_key",
            Self::RecognitionToken => "recognition_token",
        }
    }
}

/// A shopper with their devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Who, and how they stand.
    pub shopper: Shopper,
    /// Devices that a key or token may stand for.
    pub devices: Vec<DeviceId>,
}

impl Profile {
    /// Somebody of whom nothing is known yet but their name.
    pub(super) fn new(id: VisitorId) -> Self {
        let visitor = Visitor { id, kind: VisitorType::Shopper };
        let shopper = Shopper { visitor, account: Account::Active, payment_method: None };
        Self { shopper, devices: Vec::new() }
    }
}

/// For whom a key or token stands, and how it may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Only what is revoked may belong to nobody.
    pub shopper: Option<VisitorId>,
    /// The device that it identifies.
    pub device: Option<DeviceId>,
    /// The only channel by which it may be read, if it is limited to one.
    pub channel: Option<KeyChannel>,
    /// Whether it is refused.
    pub revoked: bool,
}

/// A change as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Later ones are greater.
    pub id: i64,
    /// When, by our clock.
    pub at: DateTime<Utc>,
    /// What was done: `put`, `deleted`, `flagged`, `unflagged`, `revoked` or `erased`.
    pub action: String,
    /// To what: `store`, `shopper`, `identity_key`, `recognition_token` or `customer`.
    pub kind: String,
    /// To which: an id, or a digest in hexadecimal.
    pub subject: String,
}

impl Change {
    /// How it is remembered: what was done, to what, to which.
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

/// How it is remembered that a key or token has changed.
pub(super) fn put_registration(kind: Kind, digest: &Digest) -> (&'static str, &'static str, String) {
    ("put", kind.as_str(), digest.to_hex())
}
