//! `GET /livez` and `/readyz`, on both ports: unlimited and unauthenticated.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::{LIVEZ, READYZ};

/// Whether the connector takes requests: not before it runs, and not once it is asked to stop. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says that requests are welcome, or no more.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }
}

#[derive(Serialize)]
struct Status {
    status: &'static str,
}

pub(super) fn routes(readiness: Readiness) -> Router {
    Router::new().route(LIVEZ, get(livez)).route(READYZ, get(readyz)).with_state(readiness)
}

async fn livez() -> Json<Status> {
    Json(Status { status: "alive" })
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    if readiness.0.load(Ordering::Acquire) {
        Json(Status { status: "ready" }).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(Status { status: "unready" })).into_response()
    }
}
