//! Issues Scan Key Codes for apps. A customer whom the gate would refuse gets no code, but a message for the shopper
//! that says why.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use crate::digest::new_secret;
use crate::directory::{Issued, IssuedToken, Profile, Refusal};
use crate::domain::customer::Customer;
use crate::domain::decision::{Denial, shopper_denial};
use crate::domain::ids::DeviceId;
use crate::domain::scan_key_code::{RecognitionToken, ScanKeyFormat};
use crate::domain::store::ScanKeyWindow;
use crate::shopper::{Commerce, CommerceError};

/// How long before its expiry an app should replace a code, so that a shopper does not show an expiring code at a gate.
const REFRESH_MARGIN: TimeDelta = TimeDelta::seconds(15);

/// The settings for making codes.
#[derive(Clone, Debug)]
pub(crate) struct CodeSettings {
    /// The format of the retailer's codes.
    pub format: ScanKeyFormat,
    /// How long the recognition token of a code is valid at the gate.
    pub lifetime: TimeDelta,
    /// The maximum number of valid tokens of one shopper.
    pub per_shopper: usize,
}

/// A new code.
#[derive(Debug)]
pub(crate) struct IssuedCode {
    pub code: SecretString,
    /// The time of making that the code states.
    pub made_at: DateTime<Utc>,
    /// Every gate accepts the code until this time, even if the windows of stores change.
    pub expires_at: DateTime<Utc>,
    /// The time after which the app should request the next code.
    pub refresh_after: TimeDelta,
}

/// The reason why a customer gets no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCode {
    NotSignedIn,
    /// No shopper in the directory is linked to the customer.
    NotLinked,
    AccountFlagged,
    PaymentExpired,
    /// The device is not one of the shopper's.
    UnknownDevice,
}

impl NoCode {
    /// The stable identifier in logs and metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotSignedIn => "not_signed_in",
            Self::NotLinked => "not_linked",
            Self::AccountFlagged => "account_flagged",
            Self::PaymentExpired => "payment_expired",
            Self::UnknownDevice => "unknown_device",
        }
    }

    /// A sentence that an app can show to the shopper.
    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::NotSignedIn => "Please sign in to get your code for the gate.",
            Self::NotLinked => "Your account is not set up for shopping here yet. Please ask our staff.",
            Self::AccountFlagged => "Your account is on hold. Please ask our staff.",
            Self::PaymentExpired => "Your payment method has expired. Please update it, then try again.",
            Self::UnknownDevice => "This device is not registered with your account.",
        }
    }
}

impl Commerce {
    /// Makes a code for a customer, and for one of the customer's devices if one is given. The outer error is a failure
    /// on the connector's side.
    pub(crate) async fn scan_key_code(
        &self,
        settings: &CodeSettings,
        customer: &Customer,
        device: Option<&DeviceId>,
        now: DateTime<Utc>,
    ) -> Result<Result<IssuedCode, NoCode>, CommerceError> {
        if customer.is_anonymous() {
            return Ok(Err(NoCode::NotSignedIn));
        }
        let Some(Profile { shopper, .. }) = self.directory.shopper_of(customer).await? else {
            return Ok(Err(NoCode::NotLinked));
        };
        match shopper_denial(&shopper, now) {
            Some(Denial::AccountFlagged) => return Ok(Err(NoCode::AccountFlagged)),
            Some(_) => return Ok(Err(NoCode::PaymentExpired)),
            None => {}
        }
        let window = self.directory.shortest_window().await?.unwrap_or(ScanKeyWindow::DEFAULT);
        let token = new_secret()?;
        let token = RecognitionToken::parse(token.expose_secret()).map_err(|_| CommerceError::Cryptography)?;
        let code = settings.format.write(&token, now, "").map_err(|_| CommerceError::Clock)?;
        let made_at = settings.format.read(&code).map(|code| code.made_at).ok_or(CommerceError::Clock)?;
        let token_expires_at = now.checked_add_signed(settings.lifetime).ok_or(CommerceError::Clock)?;
        let window = window.as_delta();
        let promised_until = made_at.checked_add_signed(window).ok_or(CommerceError::Clock)?;
        let token = IssuedToken {
            digest: self.directory.hash_key().recognition_token(&token),
            shopper: shopper.visitor.id.clone(),
            device: device.cloned(),
            promised_until,
            expires_at: token_expires_at,
        };
        match self.directory.issue(token, settings.per_shopper, now).await? {
            Issued::Done => {}
            Issued::Refused(Refusal::UnknownDevice) => return Ok(Err(NoCode::UnknownDevice)),
            Issued::Refused(_) => return Ok(Err(NoCode::NotLinked)), // the shopper was erased in the meantime
        }
        let refresh_after = window.checked_sub(&REFRESH_MARGIN).unwrap_or(window);
        Ok(Ok(IssuedCode { code: code.into(), made_at, expires_at: promised_until, refresh_after }))
    }
}
