//! What each answer of each port has: it is not to be stored, nor guessed at, and tells nobody which software made it. That
//! [`Answer::of`] looks for these headers makes most other tests ask for them as well; here is every call that there is.

use std::collections::BTreeSet;

use identity_connector::directory::Fault;
use reqwest::{Method, StatusCode};

use crate::openapi::contract::calls;
use crate::openapi::routes::filled;
use crate::support::{Answer, IDENTITY_KEYS, Server, client, scan, stranger};
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_every_port_has_the_same_guards() {
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
    let paths: BTreeSet<String> = calls().map(|(_, path, _)| filled(path)).chain(["/nowhere".to_owned()]).collect();
    let mut had = BTreeSet::new();
    for port in [&server.api, &server.shoppers, &server.management] {
        for path in &paths {
            for method in methods {
                // Not all carts and shoppers, of which one DELETE takes seconds.
                if method == "DELETE" && path.starts_with("/admin/v1/shoppers/") {
                    continue;
                }
                for client in [client(), stranger()] {
                    let method = Method::from_bytes(method.as_bytes()).unwrap();
                    let request = client.request(method, format!("{port}{path}")).header("origin", origin);
                    let request = request.header("access-control-request-method", "POST").body("{}");
                    had.insert(Answer::of(request.send().await.unwrap()).await.status);
                }
            }
        }
    }
    let scanned = Server::demo(&[]).await;
    had.insert(scanned.verify(&scan()).await.status);
    for fault in [Fault::Fail, Fault::Panic] {
        scanned.faults.set(Some(fault));
        had.insert(scanned.verify(&scan()).await.status);
    }
    had.insert(scanned.admin_with("PUT", "stores/S", " ".repeat(70_000)).await.status);
    let statuses = [200, 204, 400, 401, 404, 405, 413, 429, 500];
    for status in statuses {
        assert!(had.contains(&status), "{status} is not among {had:?}");
    }
}

/// What is no HTTP never gets as far as that: hyper answers by itself, with nothing in it and without saying who it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hyper_answers_by_itself_has_no_body_and_no_banner() {
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
        let _ = wire.try_send(bytes).await; // it may be refused before it is all sent
        let answer = String::from_utf8(wire.rest().await).unwrap().to_ascii_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        assert!(head.starts_with(&format!("http/1.1 {} ", want.as_u16())) && body.is_empty(), "{answer}");
        let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        assert!(names.iter().all(|name| ["content-length", "connection", "date"].contains(name)), "{names:?}");
    }
}
