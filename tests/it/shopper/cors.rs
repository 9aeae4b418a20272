//! CORS: which web pages may call the shopper endpoints. None unless listed in `commerce.allowed_origins`, and never
//! the gate's endpoint.

use crate::trials::{apply, test};
use reqwest::Method;

use crate::checks::assert_refused;
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, send};
use crate::support::{Answer, IDENTITY_KEYS, Server, client_without_credentials, scan};

const SHOP: &str = "https://shop.example.com";
const APP: &str = "http://localhost:3000";
const ALLOW_ORIGIN: &str = "access-control-allow-origin";

async fn with_origins() -> Server {
    Server::demo(&[("commerce.allowed_origins", &format!("{SHOP}, {APP}"))]).await
}

/// The preflight request that a browser sends before a page's request.
async fn preflight(server: &Server, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let request = client_without_credentials().request(Method::OPTIONS, format!("{}{path}", server.shoppers));
    let request = request.header("origin", origin).header("access-control-request-method", method);
    send(request.header("access-control-request-headers", headers)).await
}

async fn post(server: &Server, path: &str, origin: &str, key: &str) -> Answer {
    let request = client_without_credentials().post(format!("{}{path}", server.shoppers)).header("origin", origin);
    send(request.header("x-auth-key", key).body(scan().to_string())).await
}

fn has_cors_headers(answer: &Answer) -> bool {
    answer.headers.keys().any(|name| name.as_str().starts_with("access-control-"))
}

fn header(answer: &Answer, name: &str) -> String {
    answer.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_lowercase()
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
            assert_eq!(header(&answer, ALLOW_ORIGIN), origin, "{path}");
            let allowed = header(&answer, "access-control-allow-headers");
            let allowed: Vec<&str> = allowed.split(',').map(str::trim).collect();
            assert!(needed.split(',').all(|needed| allowed.contains(&needed)), "{path}: {allowed:?}");
            assert!(header(&answer, "access-control-allow-methods").contains(&method.to_lowercase()), "{path}");
            assert_eq!(header(&answer, "access-control-allow-credentials"), "", "no credentials such as cookies");
            assert!(header(&answer, "vary").contains("origin"), "{path}");
        }
    }
    // A page can also read why a request was refused.
    for (key, status) in [(AUTH_KEY, 200), ("wrong", 401)] {
        let answer = post(&server, TOKENS, SHOP, key).await;
        assert_eq!((answer.status, &*header(&answer, ALLOW_ORIGIN)), (status, SHOP));
        let exposed = header(&answer, "access-control-expose-headers");
        assert!(exposed.contains("www-authenticate") && exposed.contains("retry-after"), "{exposed}");
    }
    let put = client_without_credentials().put(format!("{}{TOKENS}", server.shoppers));
    let answer = send(put.header("origin", SHOP)).await;
    assert_refused(&answer, 405, "Method not allowed", "PUT");
    assert_eq!((&*header(&answer, ALLOW_ORIGIN), &*header(&answer, "allow")), (SHOP, "post"));
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
        let preflight = preflight(&server, TOKENS, origin, "POST", "x-auth-key").await;
        assert_eq!(header(&preflight, ALLOW_ORIGIN), "", "{origin}");
        assert_eq!(header(&post(&server, TOKENS, origin, AUTH_KEY).await, ALLOW_ORIGIN), "", "{origin}");
    }
}

/// Without allowed origins no endpoint has CORS headers, and the gate's endpoint never has any.
#[apply(test)]
async fn other_endpoints_have_no_cors_headers() {
    let (closed, open) = (Server::demo(&[]).await, with_origins().await);
    for (server, path, header) in [(&closed, TOKENS, "x-auth-key"), (&open, IDENTITY_KEYS, "content-type")] {
        let answer = preflight(server, path, SHOP, "POST", header).await;
        assert_eq!((answer.status, has_cors_headers(&answer)), (405, false), "{path}");
    }
    for (server, path, status) in [(&closed, TOKENS, 200), (&open, IDENTITY_KEYS, 200), (&open, "/livez", 405)] {
        let answer = post(server, path, SHOP, AUTH_KEY).await;
        assert_eq!((answer.status, has_cors_headers(&answer)), (status, false), "{path}");
    }
}
