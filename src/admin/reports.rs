//! `/admin/v1/sessions`, `/decisions` and `/audit`: what happened, newest first.
//!
//! Sessions are the visits to stores, open and ended. The ledger keeps decisions for `ledger.retention`. The audit
//! lists the changes of the directory, through administration, import or a directory file.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::lists::{BadPage, List, Listed, PageQuery, list};
use crate::admin::{AdminError, Management};
use crate::clock::rfc3339;
use crate::directory::AuditEntry;
use crate::domain::decision::Decision;
use crate::domain::ids::DeviceId;
use crate::domain::scan::KeyChannel;
use crate::gate_api::VisitorDetails;
use crate::ledger::{DecisionEntry, Moment, RecordId, Session, SessionEffect, SessionState};

pub(crate) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(list_sessions)).routes(routes!(list_decisions)).routes(routes!(list_audit))
}

/// A visitor's stay in a store, from entry to exit.
#[derive(Serialize, ToSchema)]
#[schema(as = Session)]
#[serde(rename_all = "camelCase")]
struct SessionRow<'a> {
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

list!(Sessions of SessionRow<'a> as "sessions");

/// List sessions (visits to stores), newest first
#[utoipa::path(
    get, path = "/admin/v1/sessions", operation_id = "listSessions", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Sessions<'_>)), BadPage)
)]
async fn list_sessions(State(management): State<Management>, page: PageQuery) -> Result<Response, AdminError> {
    let before = page.after(parse_cursor)?;
    let administration = &management.administration;
    let found = administration.ledger.sessions(before, page.limit(), administration.clock.now()).await?;
    let rows: Vec<_> = found.rows.iter().map(SessionRow::from).collect();
    Ok(List { rows, next: found.next.map(cursor) }.into_response())
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

/// A decision about a scan, as the gate received it.
#[derive(Serialize, ToSchema)]
#[schema(as = Decision)]
#[serde(rename_all = "camelCase")]
struct DecisionRow<'a> {
    #[schema(format = "uuid")]
    auth_event_id: String,
    /// By the gate's clock.
    #[schema(format = DateTime)]
    event_time: String,
    #[schema(pattern = "^(ENTRY|EXIT)$")]
    location: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, pattern = "^(OPTICAL|RADIO)$")]
    channel: Option<&'static str>,
    store_id: &'a str,
    /// The name of the caller that sent the scan, if callers are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    caller: Option<&'a str>,
    #[schema(pattern = "^(accepted|denied)$")]
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    reason: Option<&'static str>,
    /// Also of a denied scan, if the key or code has identified the visitor.
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
    /// By the connector's clock.
    #[schema(format = DateTime)]
    recorded_at: String,
}

list!(Decisions of DecisionRow<'a> as "decisions");

/// List decisions, newest first
#[utoipa::path(
    get, path = "/admin/v1/decisions", operation_id = "listDecisions", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Decisions<'_>)), BadPage)
)]
async fn list_decisions(State(management): State<Management>, page: PageQuery) -> Result<Response, AdminError> {
    let before = page.after(parse_cursor)?;
    let found = management.administration.ledger.decisions(before, page.limit()).await?;
    let rows: Vec<_> = found.rows.iter().map(DecisionRow::from).collect();
    Ok(List { rows, next: found.next.map(cursor) }.into_response())
}

impl<'a> From<&'a DecisionEntry> for DecisionRow<'a> {
    fn from(DecisionEntry { scan, record, .. }: &'a DecisionEntry) -> Self {
        let reason = match &record.decision {
            Decision::Accepted(_) => None,
            Decision::Denied { reason, .. } => Some(reason.reason()),
        };
        Self {
            auth_event_id: scan.event.id.to_string(),
            event_time: rfc3339(scan.event.timestamp),
            location: scan.event.location.as_str(),
            channel: scan.channel.map(KeyChannel::as_str),
            store_id: scan.store_id.as_str(),
            caller: scan.caller.as_deref(),
            decision: if reason.is_none() { "accepted" } else { "denied" },
            reason,
            visitor: record.decision.visitor().map(VisitorDetails::from),
            shopper_device_id: record.decision.device().map(DeviceId::as_str),
            session_effect: record.session.as_str(),
            session_id: match record.session {
                SessionEffect::Opened(id) | SessionEffect::Closed(id) => Some(id.0.to_string()),
                SessionEffect::NoneOpen | SessionEffect::Untouched => None,
            },
            recorded_at: rfc3339(record.recorded_at),
        }
    }
}

fn cursor(RecordId(id): RecordId) -> String {
    id.to_string()
}

fn parse_cursor(cursor: &str) -> Option<RecordId> {
    cursor.parse().ok().map(RecordId)
}

/// A change of the directory.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
struct AuditRow {
    id: String,
    #[schema(format = DateTime)]
    at: String,
    action: String,
    kind: String,
    /// The id or digest of the changed row.
    subject: String,
}

list!(Changes of AuditRow as "audit");

/// List changes of the directory, newest first
#[utoipa::path(
    get, path = "/admin/v1/audit", operation_id = "listAudit", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Changes)), BadPage)
)]
async fn list_audit(State(management): State<Management>, page: PageQuery) -> Result<Changes, AdminError> {
    let before = page.after(|cursor| cursor.parse::<u64>().ok()?.try_into().ok())?;
    let mut entries = management.administration.directory.audit(before, page.limit_plus_one()).await?;
    let next = page.truncate(&mut entries, |entry| entry.id.to_string());
    Ok(List { rows: entries.into_iter().map(AuditRow::from).collect(), next })
}

impl From<AuditEntry> for AuditRow {
    fn from(AuditEntry { id, at, action, kind, subject }: AuditEntry) -> Self {
        Self { id: id.to_string(), at: rfc3339(at), action, kind, subject }
    }
}
