//! The demo's page and its endpoints. They exist in a demo only, and answer only requests of the page itself.

use crate::trials::{apply, test};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use reqwest::{RequestBuilder, redirect};
use serde_json::{Value, json};

use crate::checks::*;
use crate::support::carts::ask_to_sign_in;
use crate::support::shopper::{context, send};
use crate::support::{Answer, MANAGEMENT_TOKEN, Process, Server, client_without_credentials, scan_with_key};

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

const PAGES: [(&str, &str, &str); 8] = [
    ("/demo", "text/html; charset=utf-8", "<!doctype html>"),
    ("/demo/style.css", "text/css; charset=utf-8", "{"),
    ("/demo/script.js", JAVASCRIPT, "import "),
    ("/demo/app.js", JAVASCRIPT, "import "),
    ("/demo/connector.js", JAVASCRIPT, "fetch("),
    ("/demo/gate.js", JAVASCRIPT, "import "),
    ("/demo/log.js", JAVASCRIPT, "import "),
    ("/demo/icon.svg", "image/svg+xml", "<svg"),
];

/// The paths that the connector reads from the demo's identity provider.
const PROVIDER: [(&str, &str); 2] = [("GET", "/demo/.well-known/openid-configuration"), ("GET", "/demo/keys")];

/// The endpoints that the page uses.
const ENDPOINTS: [(&str, &str); 7] = [
    ("POST", "/demo/sign-in"),
    ("GET", "/demo/shoppers"),
    ("GET", "/demo/stores"),
    ("POST", "/demo/shoppers/shopper-uuid-001/flag"),
    ("POST", "/demo/shoppers/shopper-uuid-001/unflag"),
    ("GET", "/demo/backend"),
    ("PUT", "/demo/backend"),
];

/// Requests for these calls, with a body that is valid for each of them.
fn requests(api: &str, calls: impl IntoIterator<Item = (&'static str, &'static str)>) -> Vec<(String, RequestBuilder)> {
    let body = json!({ "shopper": "shopper-uuid-001", "down": false }).to_string();
    let request = |(method, path): (&str, &str)| {
        let request = client_without_credentials().request(method.parse().unwrap(), format!("{api}{path}"));
        (format!("{method} {path}"), request.body(body.clone()))
    };
    calls.into_iter().map(request).collect()
}

/// A request for every path below `/demo`.
fn all_requests(api: &str) -> Vec<(String, RequestBuilder)> {
    let pages = PAGES.map(|(path, ..)| ("GET", path));
    requests(api, pages.into_iter().chain(PROVIDER).chain(ENDPOINTS))
}

fn with_headers(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Sends all requests with these headers, and asserts the status of each answer and, of an error, its body.
async fn assert_all(requests: Vec<(String, RequestBuilder)>, headers: &[(&str, &str)], status: u16, error: &Value) {
    for (what, request) in requests {
        let (answer, what) = (send(with_headers(request, headers)).await, format!("{what} {headers:?}"));
        assert_eq!(answer.status, status, "{what}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{what}");
        if status != 200 {
            assert_json(&answer, status, error, &what);
        }
    }
}

fn not_from_here() -> Value {
    json!({ "message": "The demo answers requests of its own page only", "reason": "not_from_here" })
}

pub(crate) async fn ask(server: &Server, method: &str, path: &str) -> Answer {
    send(client_without_credentials().request(method.parse().unwrap(), format!("{}{path}", server.api))).await
}

#[apply(test)]
async fn page_files_have_their_types_and_a_strict_policy() {
    let server = Server::demo(&[]).await;
    for (path, kind, beginning) in PAGES {
        let answer = ask(&server, "GET", path).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.to_lowercase().contains(beginning), "{path}");
        assert_eq!(answer.headers["content-type"], kind, "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        let policy = answer.headers["content-security-policy"].to_str().unwrap();
        let mut rules: Vec<_> = policy.split(';').map(str::trim).collect();
        rules.sort_unstable();
        let strict = [
            "base-uri 'none'",
            "connect-src 'self'",
            "default-src 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "img-src 'self' blob:",
            "script-src 'self'",
            "style-src 'self'",
        ];
        assert_eq!(rules, strict, "{path}");
        for forbidden in ["https://", "http://", "<style", " style=", " onclick=", "eval(", "innerHTML"] {
            let allowed = path.ends_with(".svg") && forbidden == "http://"; // the XML namespace
            assert!(allowed || !text.contains(forbidden), "{path} contains {forbidden}");
        }
    }
    let page = String::from_utf8(ask(&server, "GET", "/demo").await.body).unwrap();
    for (path, ..) in &PAGES[1..] {
        assert!(page.contains(&format!("\"{path}\"")), "the page links to {path}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("<script src=").count(), "no script in the page itself");
    for (method, path) in [
        ("POST", "/demo"),
        ("GET", "/demo/sign-in"),
        ("POST", "/demo/shoppers"),
        ("DELETE", "/demo/keys"),
        ("POST", "/"),
    ] {
        let answer = ask(&server, method, path).await;
        assert_error_form(&answer, 405, path);
        assert!(answer.headers.contains_key("allow"), "{path}");
    }
    assert_error_form(&ask(&server, "GET", "/demo/nothing").await, 404, "no such file");
    assert_error_form(&ask(&server, "GET", "/demo/../Cargo.toml").await, 404, "no file outside the demo");
}

#[apply(test)]
async fn serve_has_no_demo_on_any_port() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("connector.db").display());
    let key = base64([1; 32]);
    let process = Process::start(
        "serve",
        &[
            ("storage.url", url.as_str()),
            ("commerce.enabled", "true"),
            ("commerce.authorization_key", "an-authorization-key"),
            ("commerce.signing_keys", &key),
            ("commerce.context_keys", &base64([2; 32])),
        ],
    )
    .await;
    for port in [&process.api, &process.management] {
        for (what, request) in all_requests(port) {
            assert_error_form(&send(request.bearer_auth(MANAGEMENT_TOKEN)).await, 404, &what);
        }
    }
    let root = send(client_without_credentials().get(format!("{}/", process.api))).await;
    assert_error_form(&root, 404, "the root of the API's port");
    let carts = send(client_without_credentials().get(format!("{}/commerceapi/cart/", process.api))).await;
    assert_eq!(carts.status, 401, "the shopper's side is there");
}

#[apply(test)]
async fn demo_without_the_shoppers_side_has_no_page() {
    let server = Server::demo(&[("commerce.enabled", "false")]).await;
    for (what, request) in all_requests(&server.api) {
        assert_error_form(&send(request).await, 404, &what);
    }
    assert_error_form(&ask(&server, "GET", "/").await, 404, "the root");
}

#[apply(test)]
async fn root_redirects_to_the_page() {
    let server = Server::demo(&[]).await;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).redirect(redirect::Policy::none());
    let answer = send(client.build().unwrap().get(format!("{}/", server.api))).await;
    assert_eq!((answer.status, &answer.headers["location"]), (307, &"/demo".parse().unwrap()));
}

#[apply(test)]
async fn requests_of_other_pages_are_refused() {
    let server = Server::demo(&[]).await;
    let own = server.api.as_str();
    let port = server.address().port();
    let named = format!("localhost:{port}");
    let (origin, other_port) = (format!("http://{named}"), format!("http://127.0.0.1:{}", port ^ 1));
    let refused: [&[(&str, &str)]; 14] = [
        &[("origin", "https://evil.example")],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", &other_port)],
        &[("origin", "http://127.0.0.1")],
        &[("origin", &origin)],
        &[("origin", &own.replace("http", "https"))],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", own), ("sec-fetch-site", "cross-site")],
        &[("host", "evil.example")],
        &[("host", "127.0.0.1.evil.example")],
        &[("host", "evil.example"), ("origin", "http://evil.example")],
        &[("host", "192.0.2.1:80"), ("sec-fetch-site", "same-origin")],
    ];
    let accepted: [&[(&str, &str)]; 6] = [
        &[],
        &[("origin", own)],
        &[("origin", own), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[("host", &named), ("origin", &origin)],
        &[("host", "[::1]")],
    ];
    for headers in refused {
        assert_all(all_requests(own), headers, 403, &not_from_here()).await;
    }
    for headers in accepted {
        assert_all(all_requests(own), headers, 200, &Value::Null).await;
    }
    assert_granted(
        &server.verify(&scan_with_key(b"valid_shopper_key")).await,
        "shopper-uuid-001",
        "SHOPPER",
        "scans still work",
    );
}

/// A link in a README or a chat can open the page, but no endpoint.
#[apply(test)]
async fn links_on_other_sites_open_the_page_only() {
    let server = Server::demo(&[]).await;
    let link = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    for (what, request) in all_requests(&server.api) {
        let status = if what == "GET /demo" { 200 } else { 403 };
        assert_eq!(send(with_headers(request, &link)).await.status, status, "{what}");
    }
    for (what, headers) in [
        ("framed", [link[0], link[1], ("sec-fetch-dest", "iframe")]),
        ("fetched", [link[0], ("sec-fetch-mode", "no-cors"), link[2]]),
    ] {
        let request = client_without_credentials().get(format!("{}/demo", server.api));
        assert_eq!(send(with_headers(request, &headers)).await.status, 403, "{what}");
    }
    let foreign = client_without_credentials().get(format!("{}/demo", server.api)).header("host", "evil.example");
    assert_eq!(send(with_headers(foreign, &link)).await.status, 403, "a foreign host");
}

const KEY: &str = "the-key-of-a-published-demo";
const KEY_IS_MISSING: &str = "This demo needs a key: open the link that it printed when it started";

#[apply(test)]
async fn published_demo_needs_its_key() {
    let server = Server::published(KEY).await;
    let longer = format!("{KEY}x");
    let without_key: [&[(&str, &str)]; 7] = [
        &[],
        &[("x-demo-key", "")],
        &[("x-demo-key", "the-key-of-another-published-demo")],
        &[("x-demo-key", &KEY[1..])],
        &[("x-demo-key", &longer)],
        &[("x-demo-key", &KEY.to_uppercase())],
        &[("authorization", &format!("Bearer {KEY}"))],
    ];
    for headers in without_key {
        let error = json!({ "message": KEY_IS_MISSING });
        assert_all(requests(&server.api, ENDPOINTS), headers, 401, &error).await;
    }
    assert_eq!(server.all("customers").await.len(), 0, "no shopper has signed in");
    let open = PAGES.map(|(path, ..)| ("GET", path)).into_iter().chain(PROVIDER);
    assert_all(requests(&server.api, open), &[], 200, &Value::Null).await;
    assert_all(requests(&server.api, ENDPOINTS), &[("x-demo-key", KEY)], 200, &Value::Null).await;
}

#[apply(test)]
async fn published_demo_accepts_any_host_and_refuses_other_pages() {
    let server = Server::published(KEY).await;
    let origin = "http://demo.example:8080";
    let accepted: [&[(&str, &str)]; 3] = [
        &[("host", "demo.example:8080")],
        &[("host", "192.0.2.1")],
        &[("host", "demo.example:8080"), ("origin", origin), ("sec-fetch-site", "same-origin")],
    ];
    let refused: [&[(&str, &str)]; 4] = [
        &[("host", "demo.example:8080"), ("origin", "http://evil.example")],
        &[("host", "demo.example:8080"), ("origin", "null")],
        &[("host", "demo.example:8080"), ("sec-fetch-site", "cross-site")],
        &[("host", "demo.example"), ("origin", origin)],
    ];
    for (groups, status) in [(&accepted[..], 200), (&refused[..], 403)] {
        for headers in groups {
            let headers = [&[("x-demo-key", KEY)], *headers].concat();
            assert_all(all_requests(&server.api), &headers, status, &not_from_here()).await;
        }
    }
}

/// The connector fetches the keys of the demo's identity provider from itself, at every address on which it can be
/// published.
#[apply(test)]
async fn tokens_are_accepted_on_every_address() {
    let addresses = [Some(Ipv4Addr::UNSPECIFIED.into()), address_off_loopback()];
    for address in addresses.into_iter().flatten() {
        let server = Server::published_on(address, KEY).await;
        let url = format!("{}/demo/sign-in", server.api);
        let body = json!({ "shopper": "shopper-uuid-001" }).to_string();
        let token = send(client_without_credentials().post(url).header("x-demo-key", KEY).body(body)).await.json();
        let answer = context(&server, token["accessToken"].as_str().unwrap()).await;
        assert_eq!(answer.status, 200, "{address}");
    }
}

/// The address that this machine uses towards another network; `None` without a network. Sends nothing.
fn address_off_loopback() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("203.0.113.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[apply(test)]
async fn backend_switch_makes_scans_fail_and_nothing_else() {
    let server = Server::demo(&[]).await;
    let switch = async |body: String| {
        let url = format!("{}/demo/backend", server.api);
        send(client_without_credentials().put(url).header("origin", &server.api).body(body)).await
    };
    assert_eq!(ask(&server, "GET", "/demo/backend").await.json(), json!({ "down": false }));
    for body in ["", "{}", "[true]", "true", r#"{"down": 1}"#, r#"{"down": null}"#, r#"{"down": true"#] {
        assert_error_form(&switch(body.to_owned()).await, 400, body);
    }
    let scan = scan_with_key(b"valid_shopper_key");
    for down in [true, true, false, false, true] {
        let body = json!({ "down": down });
        assert_json(&switch(body.to_string()).await, 200, &body, "the switch");
        assert_eq!(ask(&server, "GET", "/demo/backend").await.json(), body);
        assert_eq!(server.verify(&scan_with_key(b"device_shopper_key")).await.status, if down { 500 } else { 200 });
    }
    assert_error_form(&server.verify(&scan).await, 500, "the backend is switched off");
    for path in ["/demo/shoppers", "/demo/stores"] {
        assert_eq!(ask(&server, "GET", path).await.status, 200, "{path} while the backend is down");
    }
    assert_eq!(ask(&server, "POST", "/demo/shoppers/shopper-uuid-001/flag").await.status, 200);
    assert_eq!(ask(&server, "POST", "/demo/shoppers/shopper-uuid-001/unflag").await.status, 200);
    assert_eq!(ask_to_sign_in(&server, &json!({ "shopper": "shopper-uuid-001" })).await.status, 200);
    assert_eq!(switch(json!({ "down": false }).to_string()).await.status, 200);
    assert_granted(&server.verify(&scan).await, "shopper-uuid-001", "SHOPPER", "the retry");
}
