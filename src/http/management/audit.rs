//! `/admin/v1/audit`: changes of the directory, through administration, import or a directory file.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery};
use super::{AdminError, Management, rfc3339};
use crate::directory::AuditEntry;

/// A change of the directory.
#[derive(Serialize, ToSchema)]
#[schema(as = AuditEntry)]
pub(super) struct AuditRow {
    id: String,
    #[schema(format = DateTime)]
    at: String,
    action: String,
    kind: String,
    /// The id or digest of the changed row.
    subject: String,
}

type Changes = List<AuditRow>;

impl Listed for AuditRow {
    const NAME: &'static str = "audit";
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(list))
}

/// List changes of the directory, newest first
#[utoipa::path(
    get, path = "/admin/v1/audit", operation_id = "listAudit", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Changes)), BadPage)
)]
async fn list(State(management): State<Management>, page: PageQuery) -> Result<Changes, AdminError> {
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
