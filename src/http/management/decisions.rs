//! `/admin/v1/decisions`: the decisions that the ledger has, for as long as it keeps them (`ledger.retention`).

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery, bytes_cursor, parse_bytes_cursor};
use super::{AdminError, Management, rfc3339};
use crate::digest::Fingerprint;
use crate::domain::decision::{Decision, Denial};
use crate::domain::ids::{DeviceId, EventId};
use crate::http::answer::VisitorDetails;
use crate::ledger::{DecisionCursor, DecisionEntry, SessionEffect};

/// A decision about a scan, as the gate received it.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
#[serde(rename_all = "camelCase")]
pub(super) struct DecisionRow<'a> {
    #[schema(format = "uuid")]
    auth_event_id: String,
    #[schema(pattern = "^(accepted|denied)$")]
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = VisitorDetails<'_>, required = false)]
    visitor: Option<VisitorDetails<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    shopper_device_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^(opened|closed|none_open)$")]
    session_effect: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    session_id: Option<String>,
    #[schema(format = DateTime)]
    recorded_at: String,
}

type Decisions<'a> = List<DecisionRow<'a>>;

impl Listed for DecisionRow<'_> {
    const NAME: &'static str = "decisions";
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(list))
}

/// List decisions, newest first
#[utoipa::path(
    get, path = "/admin/v1/decisions", operation_id = "listDecisions", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Decisions<'_>)), BadPage)
)]
async fn list(State(management): State<Management>, page: PageQuery) -> Result<Response, AdminError> {
    let before = page.after(parse)?;
    let found = management.administration.ledger.decisions(before, page.limit()).await?;
    let rows: Vec<_> = found.decisions.iter().map(DecisionRow::from).collect();
    Ok(List { rows, next: found.next.as_ref().map(write) }.into_response())
}

impl<'a> From<&'a DecisionEntry> for DecisionRow<'a> {
    fn from(DecisionEntry { event, record, .. }: &'a DecisionEntry) -> Self {
        let grant = match &record.decision {
            Decision::Accepted(grant) => Ok(grant),
            Decision::Denied(denial) => Err(*denial),
        };
        Self {
            auth_event_id: event.to_string(),
            decision: if grant.is_ok() { "accepted" } else { "denied" },
            reason: grant.err().map(Denial::reason),
            visitor: grant.ok().map(|grant| VisitorDetails::from(&grant.visitor)),
            shopper_device_id: grant.ok().and_then(|grant| grant.device.as_ref()).map(DeviceId::as_str),
            session_effect: record.session.as_str(),
            session_id: match record.session {
                SessionEffect::Opened(id) | SessionEffect::Closed(id) => Some(id.0.to_string()),
                SessionEffect::NoneOpen | SessionEffect::Untouched => None,
            },
            recorded_at: rfc3339(record.recorded_at),
        }
    }
}

/// Writes a cursor: its three parts, concatenated.
fn write(cursor: &DecisionCursor) -> String {
    let recorded_at = cursor.recorded_at.to_be_bytes();
    bytes_cursor(&[&recorded_at[..], cursor.event.as_bytes(), cursor.fingerprint.as_bytes()].concat())
}

fn parse(cursor: &str) -> Option<DecisionCursor> {
    let bytes = parse_bytes_cursor(cursor)?;
    let (recorded_at, rest) = bytes.split_first_chunk()?;
    let (event, fingerprint) = rest.split_first_chunk()?;
    Some(DecisionCursor {
        recorded_at: i64::from_be_bytes(*recorded_at),
        event: EventId::from_bytes(*event),
        fingerprint: Fingerprint::from_bytes(fingerprint.try_into().ok()?),
    })
}
