//! The OpenAPI document: as it stands in `docs/`, as it is served, and that what it says is so.

mod administration;
pub(crate) mod contract;
mod gate;
pub(crate) mod routes;
mod shopper;

use identity_connector::http::document;

use crate::support::{Answer, Server, stranger};

#[test]
fn the_document_in_docs_is_the_one_of_this_code() {
    let kept = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json")).unwrap_or_default();
    assert!(kept == document(), "docs/openapi.json is stale. Renew it: cargo run -- openapi > docs/openapi.json");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_management_port_gives_the_document_and_a_page_to_anybody() {
    let server = Server::demo(&[]).await;
    let get = async |path: &str| {
        let request = stranger().get(format!("{}{path}", server.management));
        Answer::of(request.send().await.unwrap()).await
    };
    let answer = get("/openapi.json").await;
    assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, "application/json"));
    assert!(answer.body == document().as_bytes());
    for (path, content_type) in [
        ("/openapi", "text/html; charset=utf-8"),
        ("/openapi/icon.svg", "image/svg+xml"),
        ("/openapi/style.css", "text/css; charset=utf-8"),
        ("/openapi/script.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = get(path).await;
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, content_type), "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains("src=\"http") && !text.contains("https://") && !text.contains("innerHTML"), "{path}");
    }
}
