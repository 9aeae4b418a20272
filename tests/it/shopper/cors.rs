//! CORS: which web pages may call the shopper endpoints. None unless listed in `commerce.allowed_origins`, and never
//! the gate's endpoint.

use crate::trials::{apply, test};
use reqwest::Method;

use crate::checks::assert_refused;
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, send};
use crate::support::{Answer, IDENTITY_KEYS, Server, client_without_credentials, scan};

const SHOP: &str = "https://shop.example.com";
const APP: &str = "http://localhost:3000";

async fn with_origins() -> Server {
    Server::demo(&[("commerce.allowed_origins", &format!("{SHOP}, {APP}"))]).await
}

/// The preflight request that a browser sends before a page's request.
async fn preflight(server: &Server, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let request = client_without_credentials()
        .request(Method::OPTIONS, format!("{}{path}", server.shoppers))
        .header("origin", origin);
    let request = request.header("access-control-request-method", method);
    send(request.header("access-control-request-headers", headers)).await
}

async fn post(server: &Server, path: &str, origin: &str, key: &str) -> Answer {
    let request = client_without_credentials().post(format!("{}{path}", server.shoppers)).header("origin", origin);
    send(request.header("x-auth-key", key).body(scan().to_string())).await
}

/// The CORS headers of an answer.
fn cors_headers(answer: &Answer) -> Vec<&str> {
    answer
        .headers
        .keys()
        .map(reqwest::header::HeaderName::as_str)
        .filter(|name| name.starts_with("access-control-"))
        .collect()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[apply(test)]
async fn no_page_may_call_without_allowed_origins() {
    let server = Server::demo(&[]).await;
    let answer = preflight(&server, TOKENS, SHOP, "POST", "x-auth-key").await;
    assert_eq!((answer.status, cors_headers(&answer)), (405, Vec::new()));
    let answer = post(&server, TOKENS, SHOP, AUTH_KEY).await;
    assert_eq!((answer.status, cors_headers(&answer)), (200, Vec::new()));
}

#[apply(test)]
async fn page_of_an_allowed_origin_may_call() {
    let server = with_origins().await;
    for (path, method, needed) in [
        (TOKENS, "POST", "content-type,x-auth-key"),
        (CONTEXTS, "GET", "authorization"),
        (CONTEXTS, "GET", "authorization,content-type,x-customer-context"),
    ] {
        for origin in [SHOP, APP] {
            let answer = preflight(&server, path, origin, method, needed).await;
            assert!([200, 204].contains(&answer.status), "{path}: {}", answer.status);
            assert_eq!(header(&answer, "access-control-allow-origin"), origin, "{path}");
            let allowed = header(&answer, "access-control-allow-headers").to_lowercase();
            let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
            assert!(needed.split(',').all(|needed| allowed.contains(&needed)), "{path}: {allowed:?}");
            assert!(header(&answer, "access-control-allow-methods").contains(method), "{path}");
            assert_eq!(
                header(&answer, "access-control-allow-credentials"),
                "",
                "credentials such as cookies are not allowed"
            );
            assert!(header(&answer, "vary").to_lowercase().contains("origin"), "{path}");
        }
    }
    // A page can also read why a request was refused.
    for (key, status) in [(AUTH_KEY, 200), ("wrong", 401)] {
        let answer = post(&server, TOKENS, SHOP, key).await;
        assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (status, SHOP));
        let exposed = header(&answer, "access-control-expose-headers").to_lowercase();
        assert!(exposed.contains("www-authenticate") && exposed.contains("retry-after"), "{exposed}");
    }
    let wrong_method = client_without_credentials().put(format!("{}{TOKENS}", server.shoppers)).header("origin", SHOP);
    let answer = send(wrong_method).await;
    assert_refused(&answer, 405, "Method not allowed", "PUT");
    assert_eq!((header(&answer, "access-control-allow-origin"), header(&answer, "allow")), (SHOP, "POST"));
}

#[apply(test)]
async fn page_of_another_origin_may_not_call() {
    let server = with_origins().await;
    for origin in [
        "https://evil.example.com",
        "https://shop.example.com.evil.example",
        "http://shop.example.com",
        "https://shop.example.com:8443",
        "https://SHOP.example.com",
        "http://localhost:3001",
        "null",
    ] {
        let preflight_answer = preflight(&server, TOKENS, origin, "POST", "x-auth-key").await;
        assert_eq!(header(&preflight_answer, "access-control-allow-origin"), "", "{origin}");
        let post_answer = post(&server, TOKENS, origin, AUTH_KEY).await;
        assert_eq!(header(&post_answer, "access-control-allow-origin"), "", "{origin}");
    }
}

#[apply(test)]
async fn gate_endpoint_has_no_cors_headers() {
    let server = with_origins().await;
    let preflight_answer = preflight(&server, IDENTITY_KEYS, SHOP, "POST", "content-type").await;
    assert_eq!((preflight_answer.status, cors_headers(&preflight_answer)), (405, Vec::new()));
    for path in [IDENTITY_KEYS, "/livez"] {
        let answer = post(&server, path, SHOP, AUTH_KEY).await;
        assert_eq!(cors_headers(&answer), Vec::<&str>::new(), "{path}");
    }
    assert_eq!(post(&server, IDENTITY_KEYS, SHOP, AUTH_KEY).await.status, 200);
}
