//! Requests on one connection: keep-alive, pipelining, `Expect: 100-continue`, and what is not HTTP.

use crate::checks::*;
use crate::gate::wire::{Wire, head, request};
use crate::support::{IDENTITY_KEYS, Server, scan};
use crate::trials::{apply, test};

#[apply(test)]
async fn expect_100_continue_is_answered() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let mut wire = Wire::connect(&server).await;
    wire.send_head(&format!("expect: 100-continue\r\ncontent-length: {}\r\n", body.len())).await;
    assert_eq!(wire.answer().await.status, 100);
    wire.send(&body).await;
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "after 100 Continue");
}

#[apply(test)]
async fn requests_on_one_connection_are_answered_in_order() {
    let server = Server::demo(&[]).await;
    let associate = scan_with("identityKey", base64("associate_key")).to_string();
    let unknown = scan_with("identityKey", base64("unknown_key")).to_string();
    let mut wire = Wire::connect(&server).await;
    for pipelined in [false, true] {
        let all = [scan().to_string(), associate.clone(), "{}".to_owned(), unknown.clone(), scan().to_string()];
        if pipelined {
            wire.send(all.each_ref().map(|body| request(body)).concat()).await;
        }
        for (number, body) in all.iter().enumerate() {
            if !pipelined {
                wire.send(request(body)).await;
            }
            let (answer, what) = (wire.answer().await, format!("scan {number}, pipelined: {pipelined}"));
            match number {
                1 => assert_granted(&answer, "associate-uuid-001", "ASSOCIATE", &what),
                2 => assert_refused(&answer, 400, INVALID_BODY, &what),
                3 => assert_refused(&answer, 401, KEY_NOT_FOUND, &what),
                _ => assert_granted(&answer, "shopper-uuid-001", "SHOPPER", &what),
            }
        }
    }
}

/// hyper itself answers what is not HTTP and a head of much more than 16 KiB, without a body and without a `Server`
/// header.
#[apply(test)]
async fn malformed_http_gets_an_answer_without_body_and_banner_and_affects_no_other_client() {
    let server = Server::demo(&[]).await;
    let padded = |bytes: usize| {
        let body = scan().to_string();
        let headers = format!("content-length: {}\r\nx-padding: {}\r\n", body.len(), "x".repeat(bytes));
        format!("{}{body}", head(&headers))
    };
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    let long = format!("POST {IDENTITY_KEYS} HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n", "a".repeat(100_000));
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    for (bytes, status) in [
        ("garbage\r\n\r\n", Some(400)),
        ("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n", Some(400)),
        (&many, Some(431)),
        (&long, Some(431)),
        (&padded(256 * 1024), None),
        (&long_line, None),
        ("\r\n\r\n\r\n\r\nx\r\n\r\n", None),
        ("POST\r\n\r\n", None),
        ("\0\u{1}\u{2}\r\n\r\n", None),
    ] {
        let mut wire = Wire::connect(&server).await;
        let _ = wire.try_send(bytes).await; // the server may refuse it before everything is sent
        let _ = wire.finish_sending().await;
        let answer = String::from_utf8(wire.rest().await).unwrap().to_ascii_lowercase();
        if status.is_none() && answer.is_empty() {
            continue;
        }
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let is_expected =
            head.starts_with(&status.map_or("http/1.1 4".to_owned(), |status| format!("http/1.1 {status} ")));
        assert!(is_expected && body.is_empty(), "{answer} to {bytes:.100}");
        let names: Vec<&str> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
        assert!(names.iter().all(|name| ["content-length", "connection", "date"].contains(name)), "{names:?}");
    }
    let mut wire = Wire::connect(&server).await;
    wire.send(padded(8 * 1024)).await;
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "a head of 8 KiB, after the garbage");
}
