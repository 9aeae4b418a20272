//! Serves the document, and Swagger UI to read it. Swagger UI is part of the binary, so the page loads nothing from other
//! servers.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::http::error::Refused;
use crate::http::openapi::JSON;
use crate::http::page_file;

/// The path of the document.
const DOCUMENT: &str = "/openapi.json";
/// The path of the page.
const PAGE: &str = "/openapi";

/// The browser loads from this server only, runs no inline script, and shows the page in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

pub(crate) fn routes() -> Router {
    Router::from(described_routes())
        .route("/", get(async || page_file(HTML, POLICY, include_str!("port.html"))))
        .route("/openapi/", get(async || file("index.html")))
        .route("/openapi/{*file}", get(async |Path(name): Path<String>| file(&name)))
}

/// The routes that the document has, with their descriptions.
pub(super) fn described_routes() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(document)).routes(routes!(page))
}

/// Show this document as a page
#[utoipa::path(
    get, path = PAGE, operation_id = "openapiPage", tag = "operations", security(()),
    responses((status = 303, description = "The page is under `/openapi/`.", headers(("location"))))
)]
async fn page() -> impl IntoResponse {
    Redirect::to("/openapi/")
}

/// Get this document
#[utoipa::path(
    get, path = DOCUMENT, operation_id = "openapi", tag = "operations", security(()),
    responses((status = 200, description = "The document.", body = Object))
)]
async fn document() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    ([(header::CONTENT_TYPE, JSON)], TEXT.get_or_init(super::document).as_str()).into_response()
}

/// A file of Swagger UI.
fn file(name: &str) -> Response {
    // The page sends no requests of its own: the other ports are other origins, and no token is typed into it.
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        let config = Config::from(DOCUMENT).use_base_layout().supported_submit_methods([""; 0]).validator_url("none");
        Arc::new(config)
    });
    match utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)) {
        Ok(Some(file)) => page_file(file.content_type, POLICY, file.bytes).into_response(),
        Ok(None) => Refused::not_found().into_response(),
        Err(error) => Refused::internal("page", error.to_string()).into_response(),
    }
}
