//! The decision about a scan: the gate opens or stays closed. Deciding has no side effect; the ledger records the
//! result.

use chrono::{DateTime, Utc};

use super::ids::{DeviceId, PaymentSourceId};
use super::scan::{AuthEvent, Location};
use super::store::{ExitPolicy, Store};
use super::visitor::{Account, Holder, Shopper, Visitor, VisitorType};

/// The decision about a scan. Recorded once, then never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The gate opens: 200.
    Accepted(Grant),
    /// The gate stays closed: 401.
    Denied {
        /// The reason.
        reason: Denial,
        /// The visitor, if the key or code has identified one. Not part of the answer.
        known: Option<Known>,
    },
}

impl Decision {
    /// Refuses a visitor who is not known.
    pub fn refuse_unknown(reason: Denial) -> Self {
        Self::Denied { reason, known: None }
    }

    /// The visitor, if the key or code has identified one.
    pub(crate) fn visitor(&self) -> Option<&Visitor> {
        match self {
            Self::Accepted(grant) => Some(&grant.visitor),
            Self::Denied { known, .. } => known.as_ref().map(|known| &known.visitor),
        }
    }

    /// The visitor's device, if the key or code has identified it.
    pub(crate) fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Accepted(grant) => grant.device.as_ref(),
            Self::Denied { known, .. } => known.as_ref()?.device.as_ref(),
        }
    }
}

/// A visitor who is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The visitor.
    pub visitor: Visitor,
    /// The visitor's device, if the key or code identifies it.
    pub device: Option<DeviceId>,
}

/// The visitor that the gate opens for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The visitor.
    pub visitor: Visitor,
    /// The visitor's device, if the key or code identifies it.
    pub device: Option<DeviceId>,
    /// The visitor's payment method, if the configuration includes it in answers.
    pub payment_source: Option<PaymentSourceId>,
}

/// The reason why a gate stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denial {
    /// The key is revoked, malformed, or registered for another channel.
    InvalidKey,
    /// The key is not registered.
    KeyNotFound,
    /// The Scan Key Code is older than its validity window.
    KeyExpired,
    /// The Scan Key Code has already opened a gate for another event, and codes are single-use.
    KeyAlreadyUsed,
    /// The account is flagged.
    AccountFlagged,
    /// The payment method had expired at the time of the event.
    PaymentExpired,
    /// The store does not take cash.
    CashNotSupported,
}

impl Denial {
    /// The `message` that Amazon receives.
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

    /// All denials.
    pub const ALL: [Self; 7] = [
        Self::InvalidKey,
        Self::KeyNotFound,
        Self::KeyExpired,
        Self::KeyAlreadyUsed,
        Self::AccountFlagged,
        Self::PaymentExpired,
        Self::CashNotSupported,
    ];

    /// Parses the identifier that [`Self::reason`] returns.
    pub fn parse(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|denial| denial.reason() == reason)
    }

    /// The stable identifier in logs, metrics and the ledger.
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

/// Decides the scan of an identified visitor.
///
/// At an exit the account rules are skipped, so that no shopper is locked in, unless the store's exit policy requires
/// them.
pub fn decide(event: &AuthEvent, store: &Store, holder: Holder, include_payment_source: bool) -> Decision {
    let Holder { shopper, device } = holder;
    let check_account = event.location == Location::Entry || store.exit_policy == ExitPolicy::CheckAccount;
    if check_account && let Some(denial) = account_denial(event, store, &shopper) {
        return Decision::Denied { reason: denial, known: Some(Holder { shopper, device }.into()) };
    }
    let payment_source = shopper.payment_method.as_ref().filter(|_| include_payment_source);
    Decision::Accepted(Grant {
        visitor: shopper.visitor.clone(),
        device,
        payment_source: payment_source.and_then(|method| method.id.clone()),
    })
}

impl From<Holder> for Known {
    fn from(Holder { shopper, device }: Holder) -> Self {
        Self { visitor: shopper.visitor.clone(), device }
    }
}

/// The first account rule that fails.
fn account_denial(event: &AuthEvent, store: &Store, shopper: &Shopper) -> Option<Denial> {
    let no_cash =
        (shopper.visitor.kind == VisitorType::CashShopper && !store.takes_cash).then_some(Denial::CashNotSupported);
    shopper_denial(shopper, event.timestamp).or(no_cash)
}

/// The rules that do not depend on the store, in the order in which the gate applies them: flagged account, then
/// expired payment method. `None` if both pass.
pub(crate) fn shopper_denial(shopper: &Shopper, at: DateTime<Utc>) -> Option<Denial> {
    let method = shopper.payment_method.as_ref();
    if shopper.account == Account::Flagged {
        Some(Denial::AccountFlagged)
    } else if method.is_some_and(|method| method.last_valid_month.has_ended_at(at)) {
        Some(Denial::PaymentExpired)
    } else {
        None
    }
}
