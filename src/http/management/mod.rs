//! The management port: metrics, and the administration of the directory and the ledger.
//!
//! With `management.token`, both need it. Without it, metrics need no token, and administration is closed.

mod audit;
mod customers;
mod decisions;
mod lists;
mod registrations;
mod rows;
mod sessions;
mod shoppers;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::bearer::bearer;
use super::error::ApiError;
use super::openapi::{self, MANAGEMENT_TOKEN, Refusals, fault, refusals};
use super::{METRICS, accept};
use crate::administration::{Administration, AdministrationError};
use crate::commerce::Provider;
use crate::directory::{DirectoryError, Refusal};
use crate::ledger::LedgerError;
use crate::metrics::{Format, Metrics};
use crate::rate_limit::RateLimits;
use crate::storage::Database;

/// How long a scrape waits for the disk's free space.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

/// The state of the management port.
#[derive(Clone, Debug)]
pub struct Management {
    /// The use cases of administration.
    pub administration: Administration,
    /// The database, if one is used.
    pub database: Option<Database>,
    /// The rate limits of callers, for metrics.
    pub limits: RateLimits,
    /// The identity providers, for metrics.
    pub providers: Vec<Arc<Provider>>,
    /// The metrics.
    pub metrics: Metrics,
    /// The bearer token (`management.token`).
    pub token: Option<SecretString>,
}

pub(super) fn routes(management: Management) -> Router {
    let metrics = Router::from(metrics_routes())
        .route_layer(from_fn_with_state(management.clone(), authenticate_if_token_is_set));
    let administration = Router::from(administration_routes())
        .route_layer(from_fn(lists::refuse_unknown_parameters))
        .route_layer(from_fn_with_state(management.clone(), authenticate));
    metrics.merge(administration).with_state(management)
}

/// The metrics' route, with its description.
pub(super) fn metrics_routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(metrics))
}

/// The routes of the administration, with their descriptions.
pub(super) fn administration_routes() -> OpenApiRouter<Management> {
    let routes = OpenApiRouter::default()
        .merge(stores::routes())
        .merge(shoppers::routes())
        .merge(registrations::routes())
        .merge(customers::routes())
        .merge(sessions::routes())
        .merge(decisions::routes())
        .merge(audit::routes());
    openapi::in_common(routes, "administration", &[MANAGEMENT_TOKEN], || {
        Refusals::default().exactly([ApiError::Unauthorized, ApiError::AdministrationClosed, fault()])
    })
}

refusals! {
    MetricsRefused = Refusals::default().exactly([ApiError::Unauthorized, fault()]);
    NotFound = Refusals::default().exactly([ApiError::NotFound]);
    TooLong = Refusals::default().exactly([ApiError::TooLong]);
}

/// Requires the token. Refuses every request if no token is set.
async fn authenticate(State(management): State<Management>, request: Request, next: Next) -> Response {
    match &management.token {
        Some(token) if is_given(token, request.headers()) => next.run(request).await,
        Some(_) => ApiError::Unauthorized.into_response(),
        None => ApiError::AdministrationClosed.into_response(),
    }
}

/// Requires the token if one is set.
async fn authenticate_if_token_is_set(State(management): State<Management>, request: Request, next: Next) -> Response {
    match &management.token {
        Some(token) if !is_given(token, request.headers()) => ApiError::Unauthorized.into_response(),
        _ => next.run(request).await,
    }
}

/// Whether the request has the token. Compares in constant time.
fn is_given(token: &SecretString, headers: &HeaderMap) -> bool {
    bearer(headers).unwrap_or_default().as_bytes().ct_eq(token.expose_secret().as_bytes()).into()
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
async fn metrics(State(management): State<Management>, headers: HeaderMap) -> Result<Response, ApiError> {
    let offers = [("application/openmetrics-text", Format::OpenMetrics), ("text/plain", Format::Plain)];
    let format = accept::preferred(&headers, &offers).unwrap_or_default();
    let Administration { directory, ledger, .. } = &management.administration;
    ledger.count().await;
    let database = management.database.clone();
    // With a time-out: asking for the free space blocks while the disk does not respond.
    let disk =
        timeout(DISK_TIMEOUT, spawn_blocking(move || database?.disk())).await.ok().and_then(Result::ok).flatten();
    let text = management.metrics.encode(
        directory,
        ledger,
        (management.database.as_ref(), disk),
        &management.limits,
        &management.administration.carts,
        &management.providers,
    );
    let text = text
        .and_then(|text| format.convert(&text))
        .map_err(|error| ApiError::Internal { reason: "metrics", cause: error.to_string() })?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], text).into_response())
}

impl From<AdministrationError> for ApiError {
    fn from(error: AdministrationError) -> Self {
        match error {
            AdministrationError::Refused(Refusal::NotFound) => Self::NotFound,
            AdministrationError::Refused(Refusal::UnknownShopper) => Self::BadRow("shopper: no such shopper".into()),
            AdministrationError::Refused(Refusal::UnknownDevice) => {
                Self::BadRow("device: not one of that shopper's devices".into())
            }
            AdministrationError::Directory(error) => error.into(),
            AdministrationError::Ledger(error) => error.into(),
            AdministrationError::Carts(error) => error.into(),
            AdministrationError::Panicked(_) => Self::Internal { reason: "panic", cause: error.to_string() },
        }
    }
}

impl From<DirectoryError> for ApiError {
    fn from(error: DirectoryError) -> Self {
        match error {
            // The identity backend does not answer, which is not the connector's fault: with 429 the gate retries and
            // stays closed meanwhile.
            DirectoryError::NoAnswerForKey(_) => Self::TooManyRequests { retry_after: 1, reason: "directory_silent" },
            DirectoryError::Unavailable(_) | DirectoryError::Busy => {
                Self::Internal { reason: "directory_unavailable", cause: error.to_string() }
            }
        }
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::Internal { reason: "ledger_unavailable", cause: error.to_string() }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
