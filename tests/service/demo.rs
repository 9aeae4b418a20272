//! The demo's page and what it asks for: there in a demo alone, and for nobody but itself.

use reqwest::RequestBuilder;
use serde_json::json;

use crate::checks::*;
use crate::support::{Answer, MANAGEMENT_TOKEN, Process, Server, scan_with_key, stranger};

const PAGES: [(&str, &str, &str); 4] = [
    ("/demo", "text/html; charset=utf-8", "<!doctype html>"),
    ("/demo/style.css", "text/css; charset=utf-8", "{"),
    ("/demo/script.js", "text/javascript; charset=utf-8", "fetch("),
    ("/demo/icon.svg", "image/svg+xml", "<svg"),
];

/// What else there is below it.
const ENDPOINTS: [(&str, &str); 7] = [
    ("GET", "/demo/.well-known/openid-configuration"),
    ("GET", "/demo/keys"),
    ("POST", "/demo/sign-in"),
    ("GET", "/demo/shoppers"),
    ("GET", "/demo/stores"),
    ("POST", "/demo/shoppers/shopper-uuid-001/flag"),
    ("POST", "/demo/shoppers/shopper-uuid-001/unflag"),
];

/// All of it, with a body that would do where one is needed.
fn everything(api: &str) -> Vec<(String, RequestBuilder)> {
    let pages = PAGES.map(|(path, ..)| ("GET", path));
    let requests = pages.into_iter().chain(ENDPOINTS).map(|(method, path)| {
        let request = stranger().request(method.parse().unwrap(), format!("{api}{path}"));
        (format!("{method} {path}"), request.body(json!({ "shopper": "shopper-uuid-001" }).to_string()))
    });
    requests.collect()
}

async fn send(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.unwrap()).await
}

pub(crate) async fn ask(server: &Server, method: &str, path: &str) -> Answer {
    send(stranger().request(method.parse().unwrap(), format!("{}{path}", server.api))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_files_are_what_they_say_and_run_nothing_else() {
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
        for elsewhere in ["https://", "http://", "<style", " style=", " onclick=", "eval(", "innerHTML"] {
            let allowed = path.ends_with(".svg") && elsewhere == "http://"; // the name of its language
            assert!(allowed || !text.contains(elsewhere), "{path} has {elsewhere}");
        }
    }
    let page = String::from_utf8(ask(&server, "GET", "/demo").await.body).unwrap();
    for (path, ..) in &PAGES[1..] {
        assert!(page.contains(&format!("\"{path}\"")), "the page has {path}");
    }
    assert_eq!(page.matches("<script").count(), page.matches("<script src=").count(), "no script in the page itself");
    for (method, path) in
        [("POST", "/demo"), ("GET", "/demo/sign-in"), ("POST", "/demo/shoppers"), ("DELETE", "/demo/keys")]
    {
        let answer = ask(&server, method, path).await;
        assert_error_form(&answer, 405, path);
        assert!(answer.headers.contains_key("allow"), "{path}");
    }
    assert_error_form(&ask(&server, "GET", "/demo/nothing").await, 404, "no such file");
    assert_error_form(&ask(&server, "GET", "/demo/../Cargo.toml").await, 404, "no file of the disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_it_is_on_any_port_of_a_serve() {
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
        for (what, request) in everything(port) {
            assert_error_form(&send(request.bearer_auth(MANAGEMENT_TOKEN)).await, 404, &what);
        }
    }
    let carts = send(stranger().get(format!("{}/commerceapi/cart/", process.api))).await;
    assert_eq!(carts.status, 401, "the shopper's side is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_without_the_shoppers_side_has_no_page() {
    let server = Server::demo(&[("commerce.enabled", "false")]).await;
    for (what, request) in everything(&server.api) {
        assert_error_form(&send(request).await, 404, &what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_own_page_is_answered() {
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
    let taken: [&[(&str, &str)]; 6] = [
        &[],
        &[("origin", own)],
        &[("origin", own), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
        &[("host", &named), ("origin", &origin)],
        &[("host", "[::1]")],
    ];
    let with = |request: RequestBuilder, headers: &[(&str, &str)]| {
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    for headers in refused {
        for (what, request) in everything(own) {
            let answer = send(with(request, headers)).await;
            let message = "The demo answers its own page only";
            let body = json!({ "message": message, "reason": "not_from_here" });
            assert_json(&answer, 403, &body, &format!("{what} {headers:?}"));
            assert!(!answer.headers.contains_key("access-control-allow-origin"));
        }
    }
    for headers in taken {
        for (what, request) in everything(own) {
            assert_eq!(send(with(request, headers)).await.status, 200, "{what} {headers:?}");
        }
    }
    assert_granted(
        &server.verify(&scan_with_key(b"valid_shopper_key")).await,
        "shopper-uuid-001",
        "SHOPPER",
        "unharmed",
    );
}
