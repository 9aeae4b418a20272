//! Which web pages may call: none, unless they are listed; and the gate's endpoint never.

use libtest_mimic::Trial;
use reqwest::Method;

use crate::checks::assert_refused;
use crate::on_the_demo;
use crate::support::shopper::{AUTH_KEY, CONTEXTS, TOKENS, send};
use crate::support::trials::lone_properties;
use crate::support::{Answer, IDENTITY_KEYS, Server, scan, stranger};

const SHOP: &str = "https://shop.example.com";
const APP: &str = "http://localhost:3000";

pub(crate) fn trials() -> Vec<Trial> {
    let properties = lone_properties![
        without_origins_no_page_may_call,
        a_page_of_a_listed_origin_may_ask_and_call,
        a_page_of_another_may_not,
        the_gates_endpoint_has_none_of_it,
    ];
    on_the_demo(module_path!(), properties)
}

async fn with_origins() -> Server {
    Server::demo(&[("commerce.allowed_origins", &format!("{SHOP}, {APP}"))]).await
}

/// What a browser asks before it sends a request of a page.
async fn preflight(server: &Server, path: &str, origin: &str, method: &str, headers: &str) -> Answer {
    let request = stranger().request(Method::OPTIONS, format!("{}{path}", server.shoppers)).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    send(request.header("access-control-request-headers", headers)).await
}

async fn post(server: &Server, path: &str, origin: &str, key: &str) -> Answer {
    let request = stranger().post(format!("{}{path}", server.shoppers)).header("origin", origin);
    send(request.header("x-auth-key", key).body(scan().to_string())).await
}

/// What an answer tells a browser about other origins.
fn told(answer: &Answer) -> Vec<&str> {
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

async fn without_origins_no_page_may_call() {
    let server = Server::demo(&[]).await;
    let answer = preflight(&server, TOKENS, SHOP, "POST", "x-auth-key").await;
    assert_eq!((answer.status, told(&answer)), (405, Vec::new()));
    let answer = post(&server, TOKENS, SHOP, AUTH_KEY).await;
    assert_eq!((answer.status, told(&answer)), (200, Vec::new()));
}

async fn a_page_of_a_listed_origin_may_ask_and_call() {
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
            assert_eq!(header(&answer, "access-control-allow-credentials"), "", "no cookies are meant");
            assert!(header(&answer, "vary").to_lowercase().contains("origin"), "{path}");
        }
    }
    // A page reads what it is refused for, too.
    for (key, status) in [(AUTH_KEY, 200), ("wrong", 401)] {
        let answer = post(&server, TOKENS, SHOP, key).await;
        assert_eq!((answer.status, header(&answer, "access-control-allow-origin")), (status, SHOP));
        let exposed = header(&answer, "access-control-expose-headers").to_lowercase();
        assert!(exposed.contains("www-authenticate") && exposed.contains("retry-after"), "{exposed}");
    }
    let wrong_method = stranger().put(format!("{}{TOKENS}", server.shoppers)).header("origin", SHOP);
    let answer = send(wrong_method).await;
    assert_refused(&answer, 405, "Method not allowed", "PUT");
    assert_eq!((header(&answer, "access-control-allow-origin"), header(&answer, "allow")), (SHOP, "POST"));
}

async fn a_page_of_another_may_not() {
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
        let asked = preflight(&server, TOKENS, origin, "POST", "x-auth-key").await;
        assert_eq!(header(&asked, "access-control-allow-origin"), "", "{origin}");
        let called = post(&server, TOKENS, origin, AUTH_KEY).await;
        assert_eq!(header(&called, "access-control-allow-origin"), "", "{origin}");
    }
}

async fn the_gates_endpoint_has_none_of_it() {
    let server = with_origins().await;
    let asked = preflight(&server, IDENTITY_KEYS, SHOP, "POST", "content-type").await;
    assert_eq!((asked.status, told(&asked)), (405, Vec::new()));
    for path in [IDENTITY_KEYS, "/livez"] {
        let answer = post(&server, path, SHOP, AUTH_KEY).await;
        assert_eq!(told(&answer), Vec::<&str>::new(), "{path}");
    }
    assert_eq!(post(&server, IDENTITY_KEYS, SHOP, AUTH_KEY).await.status, 200);
}
