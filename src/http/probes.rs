//! The probes `GET /livez` and `/readyz`, on every port: without authentication and rate limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{LIVEZ, READYZ};
use crate::directory::{Directory, IdentityBackend};
use crate::storage::Database;

/// Whether the connector accepts requests: after it has started, and until it is asked to stop. Clones share it.
///
/// A connector whose database or identity backend does not answer in time is still ready (`degraded`): it answers
/// recorded events, and taking every replica out of service at the same time would not help any gate.
#[derive(Clone, Debug)]
pub struct Readiness {
    ready: Arc<AtomicBool>,
    database: Option<Database>,
    directory: Option<Arc<Directory>>,
}

impl Readiness {
    /// Not ready yet. With a database, its health is part of the status.
    pub fn new(database: Option<Database>) -> Self {
        Self { ready: Arc::default(), database, directory: None }
    }

    /// Adds a directory. If it uses an identity backend, the backend's health is part of the status.
    pub fn with_directory(self, directory: Arc<Directory>) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// Sets whether the connector accepts requests.
    pub fn set(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }
}

/// The status of the connector.
#[derive(Serialize, ToSchema)]
#[schema(as = ProbeStatus)]
pub(crate) struct Status {
    #[schema(pattern = "^(alive|ready|degraded|unready)$")]
    status: &'static str,
}

pub(crate) fn routes(readiness: Readiness) -> Router {
    Router::from(described_routes()).with_state(readiness)
}

/// The routes, with their descriptions.
pub(crate) fn described_routes() -> OpenApiRouter<Readiness> {
    OpenApiRouter::default().routes(routes!(livez)).routes(routes!(readyz))
}

/// Check that the process runs
#[utoipa::path(
    get, path = LIVEZ, operation_id = "livez", tag = "operations", security(()),
    responses((status = 200, description = "The process runs.", body = Status, example = json!({ "status": "alive" })))
)]
async fn livez() -> Json<Status> {
    Json(Status { status: "alive" })
}

/// Check that the connector accepts requests
#[utoipa::path(
    get, path = READYZ, operation_id = "readyz", tag = "operations", security(()),
    description = "`degraded` means that the database or the identity backend does not answer, or that the disk of the \
        SQLite file is slow. Recorded events are still answered.",
    responses(
        (
            status = 200, description = "The connector accepts requests: `ready` or `degraded`.",
            body = Status, example = json!({ "status": "ready" })
        ),
        (
            status = 503, description = "The connector is starting or draining.",
            body = Status, example = json!({ "status": "unready" })
        ),
    )
)]
async fn readyz(State(readiness): State<Readiness>) -> Response {
    if readiness.ready.load(Ordering::Acquire) {
        let backend = readiness.directory.as_ref().and_then(|directory| directory.backend());
        let is_up =
            readiness.database.is_none_or(|database| database.is_up()) && backend.is_none_or(IdentityBackend::is_up);
        Json(Status { status: if is_up { "ready" } else { "degraded" } }).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Status { status: "unready" })).into_response()
    }
}
