//! May they? The decision is a value, and making it has no side effect.

use chrono::{DateTime, Utc};

use super::ids::{DeviceId, PaymentSourceId};
use super::scan::{AuthEvent, Location};
use super::store::{ExitPolicy, Store};
use super::visitor::{Account, Holder, Shopper, Visitor, VisitorType};

/// What was decided about a scan. Recorded once, then never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The gate opens: 200.
    Accepted(Grant),
    /// It stays shut: 401.
    Denied(Denial),
}

/// Whom the gate opens for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The visitor.
    pub visitor: Visitor,
    /// Their device, when the key or code identifies it.
    pub device: Option<DeviceId>,
    /// Their payment method, when the configuration has it told.
    pub payment_source: Option<PaymentSourceId>,
}

/// Why a gate stays shut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// Revoked, malformed, or read by a channel that it is not for.
    InvalidKey,
    /// Nobody's key.
    KeyNotFound,
    /// A Scan Key Code past its window.
    KeyExpired,
    /// A Scan Key Code that has opened another event, where one opens one only.
    KeyAlreadyUsed,
    /// The account is held back.
    AccountFlagged,
    /// The payment method was past its last month when the event happened.
    PaymentExpired,
    /// A cash shopper at a store that takes no cash.
    CashNotSupported,
}

impl Denial {
    /// The sentence that Amazon receives.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::InvalidKey => "Invalid identity key",
            Self::KeyNotFound => "Identity key not found",
            Self::KeyExpired => "Identity key expired",
            Self::KeyAlreadyUsed => "Identity key already used",
            Self::AccountFlagged => "Shopper account flagged",
            Self::PaymentExpired => "Payment method expired",
            Self::CashNotSupported => "Cash shoppers are not supported at this store",
        }
    }

    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::InvalidKey,
        Self::KeyNotFound,
        Self::KeyExpired,
        Self::KeyAlreadyUsed,
        Self::AccountFlagged,
        Self::PaymentExpired,
        Self::CashNotSupported,
    ];

    /// Reads its stable word back.
    #[must_use]
    pub fn parse(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|denial| denial.reason() == reason)
    }

    /// The stable word for logs, metrics and the ledger.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidKey => "invalid_key",
            Self::KeyNotFound => "key_not_found",
            Self::KeyExpired => "key_expired",
            Self::KeyAlreadyUsed => "key_already_used",
            Self::AccountFlagged => "account_flagged",
            Self::PaymentExpired => "payment_expired",
            Self::CashNotSupported => "cash_not_supported",
        }
    }
}

/// Decides about a visitor who has been identified.
///
/// At an exit the account is not looked at, so that nobody is locked in, unless the store is set to.
#[must_use]
pub fn decide(event: &AuthEvent, store: &Store, holder: Holder, tell_payment_source: bool) -> Decision {
    let Holder { shopper, device } = holder;
    let look_at_account = event.location == Location::Entry || store.exit_policy == ExitPolicy::CheckAccount;
    if look_at_account && let Some(denial) = account_denial(event, store, &shopper) {
        return Decision::Denied(denial);
    }
    let payment_source = shopper.payment_method.as_ref().filter(|_| tell_payment_source);
    Decision::Accepted(Grant {
        visitor: shopper.visitor.clone(),
        device,
        payment_source: payment_source.and_then(|method| method.id.clone()),
    })
}

/// The account rules, the first that applies.
fn account_denial(event: &AuthEvent, store: &Store, shopper: &Shopper) -> Option<Denial> {
    let no_cash =
        (shopper.visitor.kind == VisitorType::CashShopper && !store.takes_cash).then_some(Denial::CashNotSupported);
    standing(shopper, event.timestamp).or(no_cash)
}

/// Why a shopper may not enter any store at that time, if there is a reason: what the gate looks at first.
#[must_use]
pub fn standing(shopper: &Shopper, at: DateTime<Utc>) -> Option<Denial> {
    let method = shopper.payment_method.as_ref();
    if shopper.account == Account::Flagged {
        Some(Denial::AccountFlagged)
    } else if method.is_some_and(|method| method.last_month.is_over_at(at)) {
        Some(Denial::PaymentExpired)
    } else {
        None
    }
}
