//! The management port: metrics, and the administration of the directory and the ledger.
//!
//! If `management.token` is set, both require it. Otherwise metrics need no token, and administration is closed.

mod administration;
mod directory;
mod lists;
pub(crate) mod openapi;
mod reports;

pub(crate) use administration::Administration;

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::directory::{DirectoryError, Refusal};
use crate::http::document::BadDocument;
use crate::http::error::Refused;
use crate::http::headers::{bearer, preferred};
use crate::http::openapi::{self as description, MANAGEMENT_TOKEN, Refusals, fault, refusals};
use crate::http::{METRICS, Readiness, probes, with_common_layers};
use crate::ledger::LedgerError;
use crate::observe::metrics::{Exposition, Format, Metrics};
use crate::shopper::carts::CartsError;
use crate::storage::Database;

/// The state of the management port.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    /// The use cases of administration.
    pub administration: Administration,
    pub database: Option<Database>,
    pub metrics: Metrics,
    /// All metrics, as they are exposed.
    pub exposition: Arc<Exposition>,
    /// The bearer token (`management.token`).
    pub token: Option<SecretString>,
}

/// The router of the management port.
pub(crate) fn router(management: Management, readiness: Readiness) -> Router {
    let metrics = management.metrics.clone();
    with_common_layers(routes(management).merge(probes(readiness)).merge(openapi::routes()), metrics)
}

fn routes(management: Management) -> Router {
    let administration = Router::from(administration_routes()).route_layer(from_fn(lists::refuse_unknown_parameters));
    let routes = administration.merge(metrics_routes());
    routes.route_layer(from_fn_with_state(management.clone(), authenticate)).with_state(management)
}

/// The metrics' route, with its description.
pub(crate) fn metrics_routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(metrics))
}

/// The routes of the administration, with their descriptions.
pub(crate) fn administration_routes() -> OpenApiRouter<Management> {
    let routes = OpenApiRouter::default().merge(directory::routes()).merge(reports::routes());
    description::in_common(routes, "administration", &[MANAGEMENT_TOKEN], || {
        Refusals::default().exactly([AdminError::Unauthorized, AdminError::AdministrationClosed]).exactly([fault()])
    })
}

refusals! {
    MetricsRefused = Refusals::default().exactly([AdminError::Unauthorized]).exactly([fault()]);
    NotFound = Refusals::default().exactly([AdminError::NotFound]);
    TooLong = Refusals::default().exactly([AdminError::TooLong]);
}

/// Requires the token. If none is set, metrics need none, and all other requests are refused.
async fn authenticate(State(management): State<Management>, request: Request, next: Next) -> Response {
    let given = bearer(request.headers()).unwrap_or_default().as_bytes();
    let is_permitted = match &management.token {
        // In constant time.
        Some(token) => given.ct_eq(token.expose_secret().as_bytes()).into(),
        None => request.uri().path() == METRICS,
    };
    match management.token {
        _ if is_permitted => next.run(request).await,
        Some(_) => AdminError::Unauthorized.into_response(),
        None => AdminError::AdministrationClosed.into_response(),
    }
}

/// Get metrics in the OpenMetrics text format
#[utoipa::path(
    get, path = METRICS, operation_id = "metrics", tag = "operations", security((), ("managementToken" = [])),
    description = "If `Accept` prefers `text/plain`, the format is the Prometheus text format 0.0.4.",
    responses(
        (
            status = 200, description = "All metrics.",
            content((String = Format::OpenMetrics.content_type()), (String = Format::Plain.content_type()))
        ),
        MetricsRefused,
    )
)]
async fn metrics(State(management): State<Management>, headers: HeaderMap) -> Result<Response, AdminError> {
    let offers = [("application/openmetrics-text", Format::OpenMetrics), ("text/plain", Format::Plain)];
    let format = preferred(&headers, &offers).unwrap_or_default();
    management.administration.ledger.count().await;
    if let Some(database) = &management.database {
        database.measure_disk().await;
    }
    let text = management.exposition.write(format);
    let text = text.map_err(|error| AdminError::Internal { reason: "metrics", cause: error.to_string() })?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

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
