//! The security headers of every answer: no caching, no content sniffing, no name of the software. [`Answer::read`]
//! checks them, so most other tests do too; these tests make every call.

use crate::trials::{apply, test};
use std::collections::BTreeSet;

use identity_connector::testing::directory::Fault;
use reqwest::{Method, StatusCode};

use crate::admin::openapi::contract::calls;
use crate::admin::openapi::routes::fill_parameters;
use crate::gate::wire::Wire;
use crate::support::{Answer, IDENTITY_KEYS, Server, client, client_without_credentials, scan};

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
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"];
    let paths: BTreeSet<String> =
        calls().map(|(_, path, _)| fill_parameters(path)).chain(["/nowhere".to_owned()]).collect();
    let mut seen = BTreeSet::new();
    for port in [&server.api, &server.shoppers, &server.management] {
        for path in &paths {
            for method in methods {
                // Erasing a shopper can take seconds.
                if method == "DELETE" && path.starts_with("/admin/v1/shoppers/") {
                    continue;
                }
                for client in [client(), client_without_credentials()] {
                    let method = Method::from_bytes(method.as_bytes()).unwrap();
                    let request = client.request(method, format!("{port}{path}")).header("origin", origin);
                    let request = request.header("access-control-request-method", "POST").body("{}");
                    seen.insert(Answer::read(request.send().await.unwrap()).await.status);
                }
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
    let statuses = [200, 204, 400, 401, 404, 405, 413, 429, 500];
    for status in statuses {
        assert!(seen.contains(&status), "{status} is not among {seen:?}");
    }
}

/// hyper itself answers what is not HTTP, without a body and without a `Server` header.
#[apply(test)]
async fn error_answers_of_hyper_have_no_body_and_no_banner() {
    let server = Server::demo(&[]).await;
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let long = format!("POST {IDENTITY_KEYS} HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "a".repeat(100_000));
    for (bytes, want) in [
        ("garbage\r\n\r\n", StatusCode::BAD_REQUEST),
        ("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n", StatusCode::BAD_REQUEST),
        (&many, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        (&long, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    ] {
        let mut wire = Wire::connect(&server).await;
        let _ = wire.try_send(bytes).await; // the server may refuse it before everything is sent
        let answer = String::from_utf8(wire.rest().await).unwrap().to_ascii_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.starts_with(&format!("http/1.1 {} ", want.as_u16())) && body.is_empty(), "{answer}");
        let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        assert!(names.iter().all(|name| ["content-length", "connection", "date"].contains(name)), "{names:?}");
    }
}
