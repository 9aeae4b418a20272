//! Unknown paths, wrong methods, liveness and readiness, the `Host` header, and which port serves which path.

use crate::trials::{apply, test};
use reqwest::Method;

use crate::{
    checks::*,
    gate::wire::{Wire, request},
    support::{Answer, IDENTITY_KEYS, Server, scan},
};

async fn ask(method: Method, url: String) -> Answer {
    Answer::read(crate::support::client().request(method, url).body(scan().to_string()).send().await.unwrap()).await
}

fn allowed(answer: &Answer) -> Vec<String> {
    let allow = answer.headers.get("allow").expect("the answer has an Allow header").to_str().unwrap();
    allow.split(',').map(|method| method.trim().to_owned()).collect()
}

#[apply(test)]
async fn an_unknown_path_is_404_for_every_method() {
    let server = Server::demo(&[]).await;
    let paths = [
        "/v1",
        "/v1/identity",
        "/v1/identity/identity-keys/",
        "/v1/identity/identity-keys/x",
        "/v1/identity/identity-key",
        "/v1/identity/Identity-Keys",
        "/v2/identity/identity-keys",
        "//v1/identity/identity-keys",
        "/favicon.ico",
        "/livez/",
        "/v1/%00",
        "/v1/%ff%fe",
    ];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let what = format!("{method} {path}");
            assert_error_form(&ask(method, format!("{}{path}", server.api)).await, 404, &what);
        }
    }
}

#[apply(test)]
async fn methods_other_than_post_get_405_with_allow() {
    let server = Server::demo(&[]).await;
    let methods = [Method::GET, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];
    let odd = ["PROPFIND", "post", "X", "GETT"].map(|name| Method::from_bytes(name.as_bytes()).unwrap());
    for method in methods.into_iter().chain(odd) {
        let what = method.to_string();
        let answer = ask(method, format!("{}{IDENTITY_KEYS}", server.api)).await;
        assert_error_form(&answer, 405, &what);
        assert_eq!(allowed(&answer), ["POST"], "{what}");
    }
}

#[apply(test)]
async fn head_gets_405_without_a_body() {
    let server = Server::demo(&[]).await;
    let answer = ask(Method::HEAD, format!("{}{IDENTITY_KEYS}", server.api)).await;
    assert_eq!((answer.status, answer.body.len()), (405, 0));
    assert_eq!(allowed(&answer), ["POST"]);
}

#[apply(test)]
async fn a_refused_method_decides_nothing() {
    let server = Server::demo(&[]).await;
    for method in [Method::PUT, Method::GET] {
        ask(method, format!("{}{IDENTITY_KEYS}", server.api)).await;
    }
    assert!(server.sessions().await.is_empty());
}

#[apply(test)]
async fn a_query_does_not_change_the_path() {
    let server = Server::demo(&[]).await;
    for query in ["?", "?a=b", "?requestId=1", "?%00%ff"] {
        let answer = ask(Method::POST, format!("{}{IDENTITY_KEYS}{query}", server.api)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", query);
    }
}

#[apply(test)]
async fn both_ports_answer_liveness_and_readiness() {
    let server = Server::demo(&[]).await;
    for port in [&server.api, &server.management] {
        for path in ["/livez", "/readyz"] {
            let answer = ask(Method::GET, format!("{port}{path}")).await;
            assert_eq!(answer.status, 200, "{port}{path}");
        }
    }
}

#[apply(test)]
async fn liveness_and_readiness_refuse_post_and_delete() {
    let server = Server::demo(&[]).await;
    for path in ["/livez", "/readyz"] {
        for method in [Method::POST, Method::DELETE] {
            let answer = ask(method, format!("{}{path}", server.api)).await;
            assert_error_form(&answer, 405, path);
            assert!(allowed(&answer).contains(&"GET".to_owned()), "{path}");
        }
    }
}

#[apply(test)]
async fn metrics_and_administration_are_not_on_the_api_port() {
    let server = Server::demo(&[]).await;
    for path in ["/metrics", "/admin", "/admin/v1/sessions", "/admin/v1/sessions?limit=1"] {
        for method in [Method::GET, Method::POST] {
            assert_error_form(&ask(method, format!("{}{path}", server.api)).await, 404, path);
        }
    }
}

#[apply(test)]
async fn management_port_serves_no_scans() {
    let server = Server::demo(&[]).await;
    let answer = ask(Method::POST, format!("{}{IDENTITY_KEYS}", server.management)).await;
    assert_eq!(answer.status, 404);
    assert!(server.sessions().await.is_empty());
}

/// RFC 9112, section 3.2. A proxy in front may have understood such a request differently.
#[apply(test)]
async fn a_request_without_exactly_one_valid_host_is_400_on_every_port() {
    let server = Server::demo(&[("commerce.bind", "127.0.0.1:0")]).await;
    let refused = "The request must have exactly one valid Host header";
    let body = scan().to_string();
    let scan_with = |version: &str, hosts: &[&str]| {
        let hosts: String = hosts.iter().map(|host| format!("{host}\r\n")).collect();
        format!("POST {IDENTITY_KEYS} HTTP/{version}\r\n{hosts}content-length: {}\r\n\r\n{body}", body.len())
    };
    let two = ["host: connector", "host: connector"];
    for (version, hosts) in [
        ("1.1", &[][..]),
        ("1.1", &two),
        ("1.1", &["Host: a", "x-b: c", "hOST: b"]),
        ("1.0", &two),
        ("1.1", &["host: a, b"]),
        ("1.1", &["host: a b"]),
        ("1.1", &["host: user@connector"]),
        ("1.1", &["host: connector/x"]),
        ("1.1", &["host: \u{e9}"]),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.send(scan_with(version, hosts)).await;
        assert_refused(&wire.answer().await, 400, refused, &format!("{version} {hosts:?}"));
    }
    assert!(server.sessions().await.is_empty(), "nothing was decided");
    for hosts in [&[][..], &two] {
        for port in [&server.api, &server.management, &server.shoppers] {
            for path in ["/nowhere", "/livez", "/metrics", "/commerceapi/cart"] {
                let address = port.strip_prefix("http://").unwrap();
                let mut wire = Wire::over_std(std::net::TcpStream::connect(address).unwrap());
                let hosts: String = hosts.iter().map(|host| format!("{host}\r\n")).collect();
                wire.send(format!("GET {path} HTTP/1.1\r\n{hosts}\r\n")).await;
                assert_refused(&wire.answer().await, 400, refused, &format!("{port}{path} {hosts:?}"));
            }
        }
    }
    for (version, hosts) in [
        ("1.0", &[][..]),
        ("1.0", &["host: connector"]),
        ("1.1", &["host:"]),
        ("1.1", &["host: connector:8080"]),
        ("1.1", &["host: [2001:db8::1]:8080"]),
        ("1.1", &["host: 192.0.2.1"]),
        ("1.1", &["HOST: con_nector.example."]),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.send(scan_with(version, hosts)).await;
        assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", &format!("{version} {hosts:?}"));
    }
}

#[apply(test)]
async fn malformed_http_gets_no_5xx_and_affects_no_other_client() {
    let server = Server::demo(&[]).await;
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let garbage = [
        "\r\n\r\n\r\n\r\nx\r\n\r\n",
        "garbage\r\n\r\n",
        "POST\r\n\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
        &long_line,
        &many_headers,
    ];
    for bytes in garbage {
        let mut wire = Wire::connect(&server).await;
        // The server may refuse it and close the connection before everything is sent.
        let _ = wire.try_send(bytes).await;
        let _ = wire.finish_sending().await;
        let answer = String::from_utf8_lossy(&wire.rest().await).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let mut wire = Wire::connect(&server).await;
    wire.send(request(&scan().to_string())).await;
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "after the garbage");
}
