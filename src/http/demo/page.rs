//! The page itself: four files, as they stand in `demo/`, part of the binary.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// Nothing but what comes from here, no script in the page itself, in nobody's frame. A QR code is a blob that the script has fetched.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const FILES: [(&str, &str, &str); 4] = [
    ("/demo", "text/html; charset=utf-8", include_str!("../../../demo/index.html")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("../../../demo/icon.svg")),
    ("/demo/style.css", "text/css; charset=utf-8", include_str!("../../../demo/style.css")),
    ("/demo/script.js", "text/javascript; charset=utf-8", include_str!("../../../demo/script.js")),
];

pub(super) fn routes() -> Router {
    FILES.into_iter().fold(Router::new(), |routes, (path, content_type, text)| {
        routes.route(path, get(async move || file(content_type, text)))
    })
}

fn file(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text)
}
