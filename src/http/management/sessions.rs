//! `/admin/v1/sessions`: the visits to stores, open and ended.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery};
use super::{AdminError, Management, rfc3339};
use crate::domain::ids::DeviceId;
use crate::http::answer::VisitorDetails;
use crate::ledger::{Moment, Session, SessionId, SessionState};

/// A visitor's stay in a store, from entry to exit.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
#[serde(rename_all = "camelCase")]
pub(super) struct SessionRow<'a> {
    id: String,
    visitor: VisitorDetails<'a>,
    store_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    shopper_device_id: Option<&'a str>,
    #[schema(pattern = "^(open|closed|timed_out)$")]
    state: &'static str,
    entry: MomentRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = MomentRow, required = false)]
    exit: Option<MomentRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = DateTime)]
    timed_out_at: Option<String>,
}

/// The entry or exit of a session.
#[derive(Serialize, ToSchema)]
#[schema(as = Moment)]
#[serde(rename_all = "camelCase")]
struct MomentRow {
    #[schema(format = "uuid")]
    auth_event_id: String,
    /// By the gate's clock.
    #[schema(format = DateTime)]
    timestamp: String,
    /// By the connector's clock.
    #[schema(format = DateTime)]
    recorded_at: String,
}

type Sessions<'a> = List<SessionRow<'a>>;

impl Listed for SessionRow<'_> {
    const NAME: &'static str = "sessions";
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(list))
}

/// List sessions (visits to stores), newest first
#[utoipa::path(
    get, path = "/admin/v1/sessions", operation_id = "listSessions", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Sessions<'_>)), BadPage)
)]
async fn list(State(management): State<Management>, page: PageQuery) -> Result<Response, AdminError> {
    let before = page.after(|cursor| cursor.parse().ok().map(SessionId))?;
    let administration = &management.administration;
    let found = administration.ledger.sessions(before, page.limit(), administration.clock.now()).await?;
    let rows: Vec<_> = found.sessions.iter().map(SessionRow::from).collect();
    Ok(List { rows, next: found.next.map(|SessionId(id)| id.to_string()) }.into_response())
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
