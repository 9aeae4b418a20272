//! Several requests on one connection: keep-alive, pipelining, and `Expect: 100-continue`.

use crate::trials::{apply, test};
use crate::{
    checks::*,
    gate::wire::{Wire, head, request},
    support::{Server, scan},
};

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
async fn connection_is_kept_alive_for_many_scans() {
    let server = Server::demo(&[]).await;
    let mut wire = Wire::connect(&server).await;
    for _ in 0..5 {
        wire.send(request(&scan().to_string())).await;
        assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "the next request on the connection");
        wire.send(request("not json")).await;
        assert_refused(&wire.answer().await, 400, INVALID_BODY, "the next request on the connection");
    }
}

#[apply(test)]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::demo(&[]).await;
    let associate = scan_with("identityKey", base64("associate_key")).to_string();
    let unknown = scan_with("identityKey", base64("unknown_key")).to_string();
    let all = [scan().to_string(), associate, "{}".to_owned(), unknown, scan().to_string()];
    let mut wire = Wire::connect(&server).await;
    wire.send(all.map(|body| request(&body)).concat()).await;
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "the first scan");
    assert_granted(&wire.answer().await, "associate-uuid-001", "ASSOCIATE", "the second scan");
    assert_refused(&wire.answer().await, 400, INVALID_BODY, "the third scan");
    assert_refused(&wire.answer().await, 401, KEY_NOT_FOUND, "the fourth scan");
    assert_granted(&wire.answer().await, "shopper-uuid-001", "SHOPPER", "the fifth scan");
}

/// A head may have about 16 KiB. hyper refuses a much longer one without reading it.
#[apply(test)]
async fn too_long_head_is_refused() {
    let server = Server::demo(&[]).await;
    let padded = |bytes: usize| {
        let body = scan().to_string();
        let headers = format!("content-length: {}\r\nx-padding: {}\r\n", body.len(), "x".repeat(bytes));
        format!("{}{body}", head(&headers))
    };
    let mut long = Wire::connect(&server).await;
    long.send(padded(8 * 1024)).await;
    assert_granted(&long.answer().await, "shopper-uuid-001", "SHOPPER", "8 KiB");

    let mut too_long = Wire::connect(&server).await;
    let _ = too_long.try_send(padded(256 * 1024)).await; // the server may close the connection before everything is sent
    let answer = too_long.rest().await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
}
