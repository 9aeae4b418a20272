//! The API contract's rules for the transfer of bodies: at most 64 KiB, complete within a second of the head. The
//! sender of a longer body still receives the answer.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{
    checks::*,
    gate::wire::{Wire, chunk, request},
    support::{IDENTITY_KEYS, Server, scan},
};

const LIMIT: usize = 64 * 1024;
const CHUNKED: &str = "transfer-encoding: chunked\r\n";

/// The maximum time for an immediate answer: less than both time limits of the contract.
const IMMEDIATE: Duration = Duration::from_millis(700);

fn length(bytes: usize) -> String {
    format!("content-length: {bytes}\r\n")
}

/// A valid body of exactly this many bytes.
fn body_with_length(bytes: usize) -> String {
    let body = scan_with("padding", "").to_string();
    let padding = "x".repeat(bytes - body.len());
    let body = scan_with("padding", padding).to_string();
    assert_eq!(body.len(), bytes);
    body
}

/// The limit of a second for a body, and a margin.
const LATE: Duration = Duration::from_millis(1_500);

#[apply(test)]
async fn bodies_of_up_to_64_kib_are_accepted() {
    let server = Server::demo(&[]).await;
    for (bytes, passes) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false), (2 * LIMIT, false)] {
        let body = body_with_length(bytes);
        let mut with_length = Wire::connect(&server).await;
        with_length.send(request(&body)).await;
        let mut chunked = Wire::connect(&server).await;
        chunked.send_head(CHUNKED).await;
        for piece in body.as_bytes().chunks(8_000) {
            chunked.send(chunk(piece)).await;
        }
        chunked.send(chunk(b"")).await;
        let spaces = server.post(format!("{}{}", body_with_length(1_000), " ".repeat(bytes - 1_000))).await;
        for answer in [with_length.answer().await, chunked.answer().await, spaces] {
            if passes {
                assert_granted(&answer, "shopper-uuid-001", "SHOPPER", &bytes.to_string());
            } else {
                assert_refused(&answer, 400, INVALID_BODY, &bytes.to_string());
            }
        }
    }
}

/// The server does not wait for the rest of a body that is too long, or missing.
#[apply(test)]
async fn body_that_is_known_to_be_invalid_is_refused_immediately() {
    let server = Server::demo(&[]).await;
    let too_long = vec![b'x'; LIMIT + 1];
    for (headers, sent) in [
        (length(LIMIT + 1), Vec::new()),
        (length(8 * LIMIT), too_long.clone()),
        (CHUNKED.to_owned(), chunk(&too_long)),
        (String::new(), Vec::new()),
        (length(0), Vec::new()),
    ] {
        assert_one_within(IMMEDIATE, &headers, async || {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(&headers).await;
            wire.send(&sent).await;
            assert_refused(&wire.answer().await, 400, INVALID_BODY, &headers);
            wire.elapsed()
        })
        .await;
    }
}

#[apply(test)]
async fn sender_of_a_too_long_body_can_finish_and_read_the_answer() {
    let server = Server::demo(&[]).await;
    // The server reads on for a second after its answer. An attempt counts if it ends before that.
    let reading_on = Duration::from_millis(900);
    for headers in [length(3 * LIMIT), CHUNKED.to_owned()] {
        assert_one_within(reading_on, &headers, async || {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(&headers).await;
            let mut answered = None;
            let mut pieces: Vec<Vec<u8>> = vec![b'x'; 3 * LIMIT].chunks(8 * 1024).map(<[u8]>::to_vec).collect();
            if headers == CHUNKED {
                pieces = pieces.iter().map(|piece| chunk(piece)).chain([chunk(b"")]).collect();
            }
            for (number, piece) in pieces.iter().enumerate() {
                if number == 10 {
                    answered = Some(Instant::now());
                    wire.is_answered().await;
                }
                if number > 10 {
                    // Takes time, in which a server that stopped reading would refuse the rest.
                    server.verify(&scan()).await;
                }
                let sent = wire.try_send(piece).await;
                if answered.is_some_and(|answered| answered.elapsed() >= reading_on) {
                    return Duration::MAX;
                }
                sent.expect("the server continues to read");
            }
            assert_refused(&wire.answer().await, 400, INVALID_BODY, &headers);
            answered.expect("the request was answered").elapsed()
        })
        .await;
    }
}

#[apply(test)]
async fn waiting_for_the_rest_of_a_too_long_body_times_out() {
    let server = Server::demo(&[]).await;
    let mut wire = Wire::connect(&server).await;
    wire.send_head(&length(8 * LIMIT)).await;
    wire.send(vec![b'x'; LIMIT + 1]).await;
    assert_refused(&wire.answer().await, 400, INVALID_BODY, "a body that is too long");
    // `rest` waits for less than the 75 s after which an idle connection is closed.
    assert!(wire.rest().await.is_empty(), "the connection is closed without the rest of the body");
}

#[apply(test)]
async fn reading_of_a_too_long_body_stops_at_a_limit() {
    let server = Server::demo(&[]).await;
    let mut wire = Wire::connect(&server).await;
    wire.send_head(CHUNKED).await;
    // The server discards 1 MiB. Anything beyond that only fills the buffers of the sockets.
    let piece = chunk(&vec![b'x'; LIMIT]);
    let mut sent = 0;
    while let Ok(Ok(())) = timeout(Duration::from_secs(2), wire.try_send(&piece)).await {
        sent += piece.len();
        assert!(sent < 64 * 1024 * 1024, "the server reads without limit");
    }
}

#[apply(test)]
async fn slow_body_complete_within_a_second_is_accepted() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let (first, second) = body.split_at(20);
    assert_one_within(Duration::from_millis(900), "sent within the second", async || {
        let mut wire = Wire::connect(&server).await;
        wire.send_head(&length(body.len())).await;
        wire.send(first).await;
        assert!(
            wire.answer_within(Duration::from_millis(500)).await.is_none(),
            "answered before the body was complete"
        );
        wire.send(second).await;
        let sent = wire.elapsed();
        let answer = wire.answer().await;
        if sent < Duration::from_millis(900) {
            assert_granted(&answer, "shopper-uuid-001", "SHOPPER", "after half a second");
        }
        sent
    })
    .await;
}

/// A body that stops, or arrives slowly, is refused a second after the head.
#[apply(test)]
async fn incomplete_body_is_refused_in_time() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let beginning = body.as_bytes()[..body.len() / 2].to_vec();
    let nothing = Vec::new;
    // The headers, what is sent at once, and what is sent every 50 ms.
    let bodies = [
        (length(body.len()), nothing(), nothing()),
        (length(body.len()), beginning.clone(), nothing()),
        (length(body.len() + 1), body.as_bytes().to_vec(), nothing()),
        (CHUNKED.to_owned(), nothing(), nothing()),
        (CHUNKED.to_owned(), chunk(&beginning), nothing()),
        (CHUNKED.to_owned(), chunk(body.as_bytes()), nothing()),
        (CHUNKED.to_owned(), b"10".to_vec(), nothing()),
        (length(1_000), nothing(), b" ".to_vec()),
        (CHUNKED.to_owned(), nothing(), chunk(b" ")),
    ];
    assert_one_within(LATE, "the slowest answer", async || {
        let mut waiting = JoinSet::new();
        for (headers, sent, piece) in bodies.clone() {
            let mut wire = Wire::connect(&server).await;
            waiting.spawn(async move {
                wire.send_head(&headers).await;
                wire.send(&sent).await;
                let answer = loop {
                    match wire.answer_within(Duration::from_millis(50)).await {
                        Some(answer) => break answer,
                        None => wire.send(&piece).await,
                    }
                };
                let elapsed = wire.elapsed();
                let what = format!("{} bytes, then {piece:?}, {headers}: {elapsed:?} after the head", sent.len());
                assert_refused(&answer, 400, INVALID_BODY, &what);
                assert!(elapsed > Duration::from_millis(900), "{what}");
                elapsed
            });
        }
        waiting.join_all().await.into_iter().max().unwrap()
    })
    .await;
    assert!(server.sessions().await.is_empty(), "an incomplete body is not decided");
}

#[apply(test)]
async fn truncated_body_and_malformed_chunks_get_400() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let mut wire = Wire::connect(&server).await;
    wire.send_head(&length(body.len() + 1)).await;
    wire.send(&body).await;
    wire.finish_sending().await.unwrap();
    assert_refused(&wire.answer().await, 400, INVALID_BODY, "a truncated body on a half-closed connection");
    for broken in
        ["zz\r\n", "-1\r\n", "ffffffffffffffffffff\r\n", "5\r\nabcdefgh\r\n0\r\n\r\n", "\r\n\r\n", "2\n{}\n0\n\n"]
    {
        let mut wire = Wire::connect(&server).await;
        wire.send_head(CHUNKED).await;
        wire.send(broken).await;
        assert_eq!(wire.answer().await.status, 400, "{broken:?}");
    }
}

#[apply(test)]
async fn content_type_is_ignored() {
    let server = Server::demo(&[]).await;
    for kind in [None, Some("text/plain"), Some("application/xml"), Some("application/json; charset=utf-16"), Some("?")]
    {
        for (body, status) in [(scan().to_string(), 200), (String::new(), 400)] {
            let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).body(body);
            let request = kind.into_iter().fold(request, |request, kind| request.header("content-type", kind));
            assert_eq!(request.send().await.unwrap().status(), status, "{kind:?}");
        }
    }
}
