//! Scan Key Codes for an app to show: whoever the gate would turn away gets none, and is told why in words for a shopper.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use super::{Commerce, CommerceError};
use crate::administration::new_secret;
use crate::directory::{Issued, IssuedToken, Profile, Refusal};
use crate::domain::customer::Customer;
use crate::domain::decision::{Denial, standing};
use crate::domain::ids::DeviceId;
use crate::domain::scan_key_code::{RecognitionToken, ScanKeyFormat};
use crate::domain::store::ScanKeyWindow;

/// How long before its end a code is to be replaced, so that nobody stands at a gate with one that ends.
const MARGIN: TimeDelta = TimeDelta::seconds(15);

/// How codes are made.
#[derive(Clone, Debug)]
pub struct CodeSettings {
    /// How the retailer's codes look.
    pub format: ScanKeyFormat,
    /// How long the gate knows the recognition token of a code.
    pub lifetime: TimeDelta,
    /// How many of them a shopper may have at once.
    pub per_shopper: usize,
}

/// A code, just made.
#[derive(Debug)]
pub struct IssuedCode {
    /// The code.
    pub code: SecretString,
    /// When it says that it was made.
    pub made_at: DateTime<Utc>,
    /// Until when every gate takes it, whatever becomes of the windows of stores.
    pub expires_at: DateTime<Utc>,
    /// After which time the app should ask for the next one.
    pub refresh_after: TimeDelta,
}

/// Why a customer gets no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoCode {
    /// They have not signed in.
    NotSignedIn,
    /// They are no shopper that the directory knows.
    NotLinked,
    /// Their account is held back.
    AccountFlagged,
    /// Their payment method has expired.
    PaymentExpired,
    /// They name a device that is none of theirs.
    UnknownDevice,
}

impl NoCode {
    /// The stable word for it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotSignedIn => "not_signed_in",
            Self::NotLinked => "not_linked",
            Self::AccountFlagged => "account_flagged",
            Self::PaymentExpired => "payment_expired",
            Self::UnknownDevice => "unknown_device",
        }
    }

    /// A sentence that an app can show.
    #[must_use]
    pub fn message(self) -> &'static str {
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
    /// Makes a code for a customer's device, if one is named.
    ///
    /// # Errors
    /// When something of ours fails; the inner one when they may not have one.
    pub async fn scan_key_code(
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
        match standing(&shopper, now) {
            Some(Denial::AccountFlagged) => return Ok(Err(NoCode::AccountFlagged)),
            Some(_) => return Ok(Err(NoCode::PaymentExpired)),
            None => {}
        }
        let window = self.directory.shortest_window().await?.unwrap_or(ScanKeyWindow::DEFAULT);
        let token = new_secret()?;
        let token = RecognitionToken::parse(token.expose_secret()).map_err(|_| CommerceError::Cryptography)?;
        let code = settings.format.write(&token, now, "").map_err(|_| CommerceError::Clock)?;
        let made_at = settings.format.read(&code).map(|code| code.made_at).ok_or(CommerceError::Clock)?;
        let ends = now.checked_add_signed(settings.lifetime).ok_or(CommerceError::Clock)?;
        let window = window.as_delta();
        let promised_until = made_at.checked_add_signed(window).ok_or(CommerceError::Clock)?;
        let token = IssuedToken {
            digest: self.directory.hash_key().recognition_token(&token),
            shopper: shopper.visitor.id,
            device: device.cloned(),
            promised_until,
            expires_at: ends,
        };
        match self.directory.issue(token, settings.per_shopper, now).await? {
            Issued::Done => {}
            Issued::Refused(Refusal::UnknownDevice) => return Ok(Err(NoCode::UnknownDevice)),
            Issued::Refused(_) => return Ok(Err(NoCode::NotLinked)), // erased this very moment
        }
        let refresh_after = window.checked_sub(&MARGIN).unwrap_or(window);
        Ok(Ok(IssuedCode { code: code.into(), made_at, expires_at: promised_until, refresh_after }))
    }
}
