//! The page: the files of the folder `demo/`, which are part of the binary.

use axum::Router;
use axum::routing::get;

use crate::http::page_file;

/// The page's path.
pub(crate) const PAGE: &str = "/demo";

/// The browser loads from this server only, runs no inline script, and shows the page in no frame. A QR code is a blob that
/// the script has fetched.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 8] = [
    (PAGE, "text/html; charset=utf-8", include_str!("../../demo/index.html")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("../../demo/icon.svg")),
    ("/demo/style.css", "text/css; charset=utf-8", include_str!("../../demo/style.css")),
    ("/demo/script.js", JAVASCRIPT, include_str!("../../demo/script.js")),
    ("/demo/app.js", JAVASCRIPT, include_str!("../../demo/app.js")),
    ("/demo/connector.js", JAVASCRIPT, include_str!("../../demo/connector.js")),
    ("/demo/gate.js", JAVASCRIPT, include_str!("../../demo/gate.js")),
    ("/demo/log.js", JAVASCRIPT, include_str!("../../demo/log.js")),
];

pub(crate) fn routes() -> Router {
    FILES.into_iter().fold(Router::new(), |routes, (path, content_type, text)| {
        routes.route(path, get(async move || page_file(content_type, POLICY, text)))
    })
}
