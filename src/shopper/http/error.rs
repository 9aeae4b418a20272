//! The errors of the shopper's side.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::http::document::BadDocument;
use crate::http::error::{Outcome, Refused, whole_seconds};
use crate::shopper::carts::CartsError;
use crate::shopper::carts::rules::CartRefusal;
use crate::shopper::{AuthenticationError, CommerceError, NoCode, Refusal};

/// Why a request of a shopper's app is refused or fails.
#[derive(Debug)]
pub(crate) enum ShopperError {
    /// The credentials are not valid: 401. The reason is for the log only.
    Unauthenticated(Refusal),
    /// The keys of an identity provider were never fetched: 503.
    ProviderUnavailable,
    /// The customer gets no code: 400 or 403, with a message for the shopper and a reason for the app.
    NoCode(NoCode),
    /// The customer has not signed in, and so cannot take over carts: 403 with a reason for the app.
    NotSignedIn,
    /// A cart was not changed: 400, 404, 409 or 429.
    Cart(CartRefusal),
    /// A bad body: 400. The message has the position and what is wrong, never a value.
    BadRow(Cow<'static, str>),
    /// The body is too long: 413.
    TooLong,
    /// The path does not exist with these settings: 404.
    NotFound,
    /// A limit is reached: 429, with `Retry-After` in seconds. The reason is for the log only.
    TooManyRequests { retry_after: u64, reason: &'static str },
    /// A fault of the connector or its backends: 500. The cause is for the log only.
    Internal { reason: &'static str, cause: String },
}

/// The `Retry-After` while an identity provider is unavailable, in seconds.
const PROVIDER_RETRY: u64 = 5;
/// The `Retry-After` while the cart store is full, in seconds.
const FULL_RETRY: u64 = 60;

impl ShopperError {
    /// 429 with this wait, rounded up to whole seconds.
    pub(crate) fn too_many_requests(wait: Duration, reason: &'static str) -> Self {
        Self::TooManyRequests { retry_after: whole_seconds(wait), reason }
    }
}

impl From<AuthenticationError> for ShopperError {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Refused(refusal) => Self::Unauthenticated(refusal),
            AuthenticationError::ProviderUnavailable => Self::ProviderUnavailable,
            AuthenticationError::TooManyWaiting => Self::TooManyRequests { retry_after: 1, reason: "overloaded" },
            AuthenticationError::RateLimited(wait) => Self::too_many_requests(wait, "rate_limited"),
        }
    }
}

impl From<CommerceError> for ShopperError {
    fn from(error: CommerceError) -> Self {
        let reason = match error {
            CommerceError::Directory(_) => "directory_unavailable",
            _ => "cryptography",
        };
        Self::Internal { reason, cause: error.to_string() }
    }
}

impl From<CartsError> for ShopperError {
    fn from(error: CartsError) -> Self {
        Self::Internal { reason: "carts_unavailable", cause: error.to_string() }
    }
}

impl From<CartRefusal> for ShopperError {
    fn from(refusal: CartRefusal) -> Self {
        Self::Cart(refusal)
    }
}

impl From<NoCode> for ShopperError {
    fn from(refusal: NoCode) -> Self {
        Self::NoCode(refusal)
    }
}

impl From<BadDocument> for ShopperError {
    fn from(error: BadDocument) -> Self {
        match error {
            BadDocument::TooLong => Self::TooLong,
            BadDocument::Invalid(message) => Self::BadRow(message),
        }
    }
}

impl From<ShopperError> for Refused {
    fn from(error: ShopperError) -> Self {
        match error {
            ShopperError::Unauthenticated(refusal) => Self::unauthorized("Unauthorized", refusal.reason()),
            ShopperError::ProviderUnavailable => {
                let cause = Some("the keys of the identity provider were never fetched since the start".to_owned());
                let outcome = Outcome { cause, ..Outcome::reason("identity_provider_unavailable") };
                let message = "The identity provider is unavailable";
                Self::with_outcome(StatusCode::SERVICE_UNAVAILABLE, message, outcome).retry_after(PROVIDER_RETRY)
            }
            ShopperError::NoCode(refusal) => {
                let status = match refusal {
                    NoCode::UnknownDevice => StatusCode::BAD_REQUEST,
                    _ => StatusCode::FORBIDDEN,
                };
                Self::with_reason(status, refusal.reason(), refusal.message())
            }
            ShopperError::NotSignedIn => {
                let message = "Sign in first: carts move to a signed-in customer";
                Self::with_reason(StatusCode::FORBIDDEN, "not_signed_in", message)
            }
            ShopperError::Cart(CartRefusal::Full) => Self::too_many_requests(FULL_RETRY, CartRefusal::Full.reason()),
            ShopperError::Cart(refusal) => {
                let status = match refusal {
                    CartRefusal::NoSuchCart | CartRefusal::NoSuchLine => StatusCode::NOT_FOUND,
                    CartRefusal::TooManyCarts | CartRefusal::TooManyLines | CartRefusal::TooManyBytes => {
                        StatusCode::CONFLICT
                    }
                    _ => StatusCode::BAD_REQUEST,
                };
                Self::new(status, refusal.message(), refusal.reason())
            }
            ShopperError::BadRow(message) => Self::bad_row(message),
            ShopperError::TooLong => Self::too_long(),
            ShopperError::NotFound => Self::not_found(),
            ShopperError::TooManyRequests { retry_after, reason } => Self::too_many_requests(retry_after, reason),
            ShopperError::Internal { reason, cause } => Self::internal(reason, cause),
        }
    }
}

impl IntoResponse for ShopperError {
    fn into_response(self) -> Response {
        Refused::from(self).into_response()
    }
}
