//! The management port: metrics, and who is in the store.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::header;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::answer::VisitorDetails;
use super::error::ApiError;
use crate::clock::Clock;
use crate::domain::ids::DeviceId;
use crate::ledger::{Ledger, Moment, Session, SessionId, SessionState};
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;
use crate::storage::Database;

/// What the management port shows.
#[derive(Clone, Debug)]
pub struct Management {
    /// Records and sessions.
    pub ledger: Arc<Ledger>,
    /// Where they are kept, if in a database.
    pub database: Option<Database>,
    /// The time.
    pub clock: Clock,
    /// What each caller may ask.
    pub limits: RateLimits,
    /// What is counted.
    pub metrics: Metrics,
    /// The bearer token that is asked for.
    pub token: Option<SecretString>,
}

const METRICS: &str = "/metrics";
const SESSIONS: &str = "/admin/v1/sessions";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes(management: Management) -> Router {
    Router::new()
        .route(METRICS, get(metrics))
        .route(SESSIONS, get(sessions))
        .route_layer(from_fn_with_state(management.clone(), authenticate))
        .with_state(management)
}

/// Lets nobody pass without the token, if there is one. Compared in constant time.
async fn authenticate(State(management): State<Management>, request: Request, next: Next) -> Response {
    let Some(token) = &management.token else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
    let given = match given.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => token,
        _ => &[],
    };
    if given.ct_eq(token.expose_secret().as_bytes()).into() {
        next.run(request).await
    } else {
        ApiError::Unauthorized.into_response()
    }
}

async fn metrics(State(management): State<Management>) -> Result<Response, ApiError> {
    let text = management.metrics.encode(&management.ledger, management.database.as_ref(), &management.limits);
    let text = text.map_err(|error| ApiError::Internal { reason: "metrics", cause: error.to_string() })?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

/// The longest page of a list.
const MAX_PAGE: usize = 1000;

#[derive(Deserialize)]
struct PageQuery {
    limit: Option<usize>,
    cursor: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionList<'a> {
    sessions: Vec<SessionRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionRow<'a> {
    id: String,
    visitor: VisitorDetails<'a>,
    store_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    shopper_device_id: Option<&'a str>,
    state: &'static str,
    entry: MomentRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit: Option<MomentRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timed_out_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MomentRow {
    auth_event_id: String,
    timestamp: String,
    recorded_at: String,
}

/// Sessions, the newest first, a page at a time.
async fn sessions(
    State(management): State<Management>,
    query: Result<Query<PageQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let wanted = "limit is 1 to 1000, cursor is what nextCursor was";
    let Query(PageQuery { limit, cursor }) = query.map_err(|_| ApiError::BadQuery(wanted))?;
    let limit = limit.unwrap_or(100);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::BadQuery(wanted));
    }
    let page = management.ledger.sessions(cursor.map(SessionId), limit, management.clock.now()).await;
    let page = page.map_err(|error| ApiError::Internal { reason: "ledger_unavailable", cause: error.to_string() })?;
    let list = SessionList {
        sessions: page.sessions.iter().map(SessionRow::from).collect(),
        next_cursor: page.next.map(|SessionId(id)| id.to_string()),
    };
    Ok(Json(list).into_response())
}

impl<'a> From<&'a Session> for SessionRow<'a> {
    fn from(session: &'a Session) -> Self {
        let state = match session.state() {
            SessionState::Open => "open",
            SessionState::Closed => "closed",
            SessionState::TimedOut => "timed_out",
        };
        Self {
            id: session.id.0.to_string(),
            visitor: VisitorDetails::from(&session.visitor),
            store_id: session.store_id.as_str(),
            shopper_device_id: session.device.as_ref().map(DeviceId::as_str),
            state,
            entry: MomentRow::from(&session.entry),
            exit: session.exit.as_ref().map(MomentRow::from),
            timed_out_at: session.timed_out_at.map(rfc3339),
        }
    }
}

impl From<&Moment> for MomentRow {
    fn from(moment: &Moment) -> Self {
        Self {
            auth_event_id: moment.event_id.to_string(),
            timestamp: rfc3339(moment.timestamp),
            recorded_at: rfc3339(moment.recorded_at),
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
