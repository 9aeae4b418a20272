//! The errors of administration, also in the demo's page.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::directory::{DirectoryError, Refusal};
use crate::http::document::BadDocument;
use crate::http::error::Refused;
use crate::ledger::LedgerError;
use crate::shopper::carts::CartsError;

/// Why an administrative call is refused or fails.
#[derive(Debug)]
pub(crate) enum AdminError {
    /// The management token is missing or wrong: 401.
    Unauthorized,
    /// `management.token` is not set, so administration is closed: 401.
    AdministrationClosed,
    /// A bad query parameter: 400. The message says what is valid.
    BadQuery(Cow<'static, str>),
    /// A bad body or a bad id in a path: 400. The message has the position and what is wrong, never a value.
    BadRow(Cow<'static, str>),
    /// The body is too long: 413.
    TooLong,
    /// The row does not exist: 404.
    NotFound,
    /// A fault of the connector or its backends: 500. The cause is for the log only.
    Internal { reason: &'static str, cause: String },
}

impl From<Refusal> for AdminError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::UnknownShopper => Self::BadRow("shopper: no such shopper".into()),
            Refusal::UnknownDevice => Self::BadRow("device: not one of that shopper's devices".into()),
        }
    }
}

macro_rules! unavailable {
    ($($error:ident => $reason:literal)+) => {$(
        impl From<$error> for AdminError {
            fn from(error: $error) -> Self {
                Self::Internal { reason: $reason, cause: error.to_string() }
            }
        }
    )+};
}

unavailable! {
    DirectoryError => "directory_unavailable"
    LedgerError => "ledger_unavailable"
    CartsError => "carts_unavailable"
}

impl From<BadDocument> for AdminError {
    fn from(error: BadDocument) -> Self {
        match error {
            BadDocument::TooLong => Self::TooLong,
            BadDocument::Invalid(message) => Self::BadRow(message),
        }
    }
}

impl From<AdminError> for Refused {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Unauthorized => Self::unauthorized("Unauthorized", "unauthorized"),
            AdminError::AdministrationClosed => {
                Self::unauthorized("Unauthorized: management.token is not set", "administration_closed")
            }
            AdminError::BadQuery(message) => Self::new(StatusCode::BAD_REQUEST, message, "bad_query"),
            AdminError::BadRow(message) => Self::bad_row(message),
            AdminError::TooLong => Self::too_long(),
            AdminError::NotFound => Self::not_found(),
            AdminError::Internal { reason, cause } => Self::internal(reason, cause),
        }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        Refused::from(self).into_response()
    }
}
