//! Serves the document and a page to read it. The page uses no library, so that it loads nothing from other servers.

use std::sync::OnceLock;

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::http::openapi::JSON;
use crate::http::page_file;

/// The path of the document.
pub(super) const DOCUMENT: &str = "/openapi.json";
/// The path of the page.
pub(super) const PAGE: &str = "/openapi";

/// The browser loads from this server only, runs no inline script, and shows the page in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

const FILES: [(&str, &str, &str); 4] = [
    ("/", HTML, include_str!("page/port.html")),
    ("/openapi/icon.svg", "image/svg+xml", include_str!("../../../demo/icon.svg")),
    ("/openapi/style.css", "text/css; charset=utf-8", include_str!("page/style.css")),
    ("/openapi/script.js", "text/javascript; charset=utf-8", include_str!("page/script.js")),
];

pub(crate) fn routes() -> Router {
    FILES.into_iter().fold(described_routes().into(), |routes, (path, content_type, text)| {
        routes.route(path, get(async move || page_file(content_type, POLICY, text)))
    })
}

/// The routes that the document has, with their descriptions.
pub(super) fn described_routes() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(document)).routes(routes!(page))
}

/// Show this document as a page
#[utoipa::path(
    get, path = PAGE, operation_id = "openapiPage", tag = "operations", security(()),
    responses((status = 200, description = "The page.", body = String, content_type = HTML))
)]
async fn page() -> impl IntoResponse {
    page_file(HTML, POLICY, include_str!("page/index.html"))
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
