//! Unknown paths, wrong methods, the `Host` header, which port serves which path, and the headers of every answer.

use std::collections::BTreeSet;

use identity_connector::testing::directory::Fault;
use reqwest::Method;

use crate::admin::openapi::contract::calls;
use crate::admin::openapi::routes::fill_parameters;
use crate::checks::*;
use crate::gate::wire::Wire;
use crate::support::{Answer, IDENTITY_KEYS, Server, client, client_without_credentials, scan};
use crate::trials::{apply, test};

async fn ask(method: Method, url: String) -> Answer {
    Answer::read(client().request(method, url).body(scan().to_string()).send().await.unwrap()).await
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
        // These are on the management port only.
        "/metrics",
        "/admin",
        "/admin/v1/sessions",
        "/admin/v1/sessions?limit=1",
    ];
    for path in paths {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let what = format!("{method} {path}");
            assert_error_form(&ask(method, format!("{}{path}", server.api)).await, 404, &what);
        }
    }
    let scan = ask(Method::POST, format!("{}{IDENTITY_KEYS}", server.management)).await;
    assert_eq!(scan.status, 404, "the management port serves no scans");
}

#[apply(test)]
async fn methods_other_than_post_get_405_with_allow_and_decide_nothing() {
    let server = Server::demo(&[]).await;
    let methods = [Method::GET, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE];
    let odd = ["PROPFIND", "post", "X", "GETT"].map(|name| Method::from_bytes(name.as_bytes()).unwrap());
    for method in methods.into_iter().chain(odd) {
        let what = method.to_string();
        let answer = ask(method, format!("{}{IDENTITY_KEYS}", server.api)).await;
        assert_error_form(&answer, 405, &what);
        assert_eq!(allowed(&answer), ["POST"], "{what}");
    }
    let head = ask(Method::HEAD, format!("{}{IDENTITY_KEYS}", server.api)).await;
    assert_eq!((head.status, head.body.len(), allowed(&head)), (405, 0, vec!["POST".to_owned()]));
    assert!(server.sessions().await.is_empty());
    for query in ["?", "?a=b", "?requestId=1", "?%00%ff"] {
        let answer = ask(Method::POST, format!("{}{IDENTITY_KEYS}{query}", server.api)).await;
        assert_granted(&answer, "shopper-uuid-001", "SHOPPER", query);
    }
}

#[apply(test)]
async fn both_ports_answer_liveness_and_readiness_to_get_only() {
    let server = Server::demo(&[]).await;
    for url in [&server.api, &server.management]
        .into_iter()
        .flat_map(|port| [format!("{port}/livez"), format!("{port}/readyz")])
    {
        assert_eq!(ask(Method::GET, url.clone()).await.status, 200, "{url}");
        for method in [Method::POST, Method::DELETE] {
            let answer = ask(method, url.clone()).await;
            assert_error_form(&answer, 405, &url);
            assert!(allowed(&answer).contains(&"GET".to_owned()), "{url}");
        }
    }
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

/// No caching, no content sniffing, no name of the software. [`Answer::read`] checks these headers, so most other tests
/// do too; this test makes every call on every port.
#[apply(test)]
async fn every_answer_of_every_port_has_the_security_headers() {
    let origin = "https://shop.example.com";
    let settings = [
        ("commerce.bind", "127.0.0.1:0"),
        ("commerce.allowed_origins", origin),
        ("commerce.burst", "20"),
        ("commerce.requests_per_second", "1"),
        ("rate_limit.burst", "8"),
        ("rate_limit.requests_per_second", "1"),
    ];
    let server = Server::demo(&settings).await;
    let documented = calls().map(|(method, path, _)| (fill_parameters(path), method.to_uppercase()));
    let other = calls().flat_map(|(_, path, _)| {
        ["HEAD", "OPTIONS", "PROPFIND"].map(|method| (fill_parameters(path), method.to_owned()))
    });
    // Erasing a shopper can take seconds.
    let calls = documented.filter(|(path, method)| method != "DELETE" || !path.starts_with("/admin/v1/shoppers/"));
    let calls: BTreeSet<_> = calls.chain(other).chain([("/nowhere".to_owned(), "GET".to_owned())]).collect();
    let clients = [client(), client_without_credentials()];
    let mut seen = BTreeSet::new();
    for port in [&server.api, &server.shoppers, &server.management] {
        // In reverse, so that a row is put before it is deleted.
        for (path, method) in calls.iter().rev() {
            for client in &clients {
                let method = Method::from_bytes(method.as_bytes()).unwrap();
                let request = client.request(method, format!("{port}{path}")).header("origin", origin);
                let request = request.header("access-control-request-method", "POST").body("{}");
                seen.insert(Answer::read(request.send().await.unwrap()).await.status);
            }
        }
    }
    let scanned = Server::demo(&[]).await;
    seen.insert(scanned.verify(&scan()).await.status);
    for fault in [Fault::Fail, Fault::Panic] {
        scanned.faults.set(Some(fault));
        seen.insert(scanned.verify(&scan()).await.status);
    }
    seen.insert(scanned.admin_with("PUT", "stores/S", " ".repeat(70_000)).await.status);
    for status in [200, 204, 400, 401, 404, 405, 413, 429, 500] {
        assert!(seen.contains(&status), "{status} is not among {seen:?}");
    }
}
