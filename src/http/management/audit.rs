//! `/admin/v1/audit`: changes of the directory, through administration, import or a directory file.

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Serialize;
use utoipa::ToSchema;

use super::lists::{List, PageQuery};
use super::{AdminError, Management, rfc3339};
use crate::directory::AuditEntry;

/// A change of the directory.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(in crate::http) struct AuditRow {
    id: String,
    #[schema(format = DateTime)]
    at: String,
    action: String,
    kind: String,
    /// The id or digest of the changed row.
    subject: String,
}

pub(super) fn routes() -> Router<Management> {
    Router::new().route("/admin/v1/audit", get(list))
}

/// Lists the changes, newest first.
async fn list(State(management): State<Management>, page: PageQuery) -> Result<List<AuditRow>, AdminError> {
    let before = page.after(|cursor| cursor.parse::<u64>().ok()?.try_into().ok())?;
    let mut entries = management.administration.directory.audit(before, page.limit_plus_one()).await?;
    let next = page.truncate(&mut entries, |entry| entry.id.to_string());
    Ok(List { name: "audit", rows: entries.into_iter().map(AuditRow::from).collect(), next })
}

impl From<AuditEntry> for AuditRow {
    fn from(AuditEntry { id, at, action, kind, subject }: AuditEntry) -> Self {
        Self { id: id.to_string(), at: rfc3339(at), action, kind, subject }
    }
}
