//! A file of a web page, which is part of the binary.

use axum::http::header;
use axum::response::IntoResponse;

/// Answers with a file. `policy` is its `Content-Security-Policy`.
pub(super) fn page_file(content_type: &'static str, policy: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, text)
}
