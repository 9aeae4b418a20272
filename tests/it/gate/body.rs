//! The API contract's rules for the transfer of bodies: at most 64 KiB, complete within a second of the head. The
//! sender of a longer body still receives the answer.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use crate::{
    checks::*,
    gate::wire::{Wire, chunk, request},
    support::{Answer, Server, scan},
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

/// The time from the head to the answer to an incomplete body. Asserts that it is about a second or more.
#[track_caller]
fn time_until_answer(wire: &Wire, what: &str) -> Duration {
    let elapsed = wire.elapsed();
    assert!(elapsed > Duration::from_millis(900), "{what}: {elapsed:?} after the head");
    elapsed
}

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
        for answer in [with_length.answer().await, chunked.answer().await] {
            if passes {
                assert_granted(&answer, "shopper-uuid-001", "SHOPPER", &bytes.to_string());
            } else {
                assert_refused(&answer, 400, INVALID_BODY, &bytes.to_string());
            }
        }
    }
}

/// The server does not wait for the body if `Content-Length` is too large.
#[apply(test)]
async fn too_large_content_length_is_refused_immediately() {
    let server = Server::demo(&[]).await;
    assert_one_within(IMMEDIATE, "content-length too large", async || {
        let mut wire = Wire::connect(&server).await;
        wire.send_head(&length(LIMIT + 1)).await;
        assert_refused(&wire.answer().await, 400, INVALID_BODY, "content-length too large");
        wire.elapsed()
    })
    .await;
}

#[apply(test)]
async fn white_space_counts_towards_the_limit() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let body = format!("{body}{}", " ".repeat(LIMIT + 1 - body.len()));
    assert_refused(&server.post(body).await, 400, INVALID_BODY, "one space too many");
}

#[apply(test)]
async fn too_long_body_is_answered_while_it_is_being_sent() {
    let server = Server::demo(&[]).await;
    for headers in [length(8 * LIMIT), CHUNKED.to_owned()] {
        assert_one_within(IMMEDIATE, &headers, async || {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(&headers).await;
            let sent = vec![b'x'; LIMIT + 1];
            wire.send(if headers == CHUNKED { chunk(&sent) } else { sent }).await;
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
async fn endless_body_is_answered_when_it_exceeds_the_limit() {
    let server = Server::demo(&[]).await;
    assert_one_within(IMMEDIATE, "endless", async || {
        let mut wire = Wire::connect(&server).await;
        wire.send_head(CHUNKED).await;
        let answer = loop {
            // After its answer the server may stop reading.
            let sent = wire.try_send(chunk(&[b'x'; 8 * 1024])).await;
            if let Some(answer) = wire.answer_within(Duration::from_millis(1)).await {
                break answer;
            }
            sent.expect("the server reads until it answers");
        };
        assert_refused(&answer, 400, INVALID_BODY, "an endless body");
        wire.elapsed()
    })
    .await;
}

/// Sends the same piece of a body again and again until the answer comes.
async fn send_slowly(wire: &mut Wire, piece: &[u8]) -> Answer {
    loop {
        if let Some(answer) = wire.answer_within(Duration::from_millis(50)).await {
            return answer;
        }
        wire.send(piece).await;
    }
}

#[apply(test)]
async fn slow_body_is_refused_in_time() {
    let server = Server::demo(&[]).await;
    for (headers, piece) in [(length(1_000), b" ".to_vec()), (CHUNKED.to_owned(), chunk(b" "))] {
        assert_one_within(LATE, &headers, async || {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(&headers).await;
            assert_refused(&send_slowly(&mut wire, &piece).await, 400, INVALID_BODY, &headers);
            time_until_answer(&wire, &headers)
        })
        .await;
    }
}

#[apply(test)]
async fn incomplete_body_is_refused_in_time() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let beginning = body.as_bytes()[..body.len() / 2].to_vec();
    let bodies = [
        (length(body.len()), Vec::new()),
        (length(body.len()), beginning.clone()),
        (length(body.len() + 1), body.as_bytes().to_vec()),
        (CHUNKED.to_owned(), Vec::new()),
        (CHUNKED.to_owned(), chunk(&beginning)),
        (CHUNKED.to_owned(), chunk(body.as_bytes())),
        (CHUNKED.to_owned(), b"10".to_vec()),
    ];
    assert_one_within(LATE, "the slowest answer", async || {
        let mut waiting = Vec::new();
        for (headers, sent) in &bodies {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(headers).await;
            wire.send(sent).await;
            waiting.push((wire, format!("only {} bytes, {headers}", sent.len())));
        }
        let mut slowest = Duration::ZERO;
        for (mut wire, what) in waiting {
            assert_refused(&wire.answer().await, 400, INVALID_BODY, &what);
            slowest = slowest.max(time_until_answer(&wire, &what));
        }
        slowest
    })
    .await;
    assert!(server.sessions().await.is_empty(), "an incomplete body is not decided");
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

#[apply(test)]
async fn truncated_body_on_a_half_closed_connection_is_answered() {
    let server = Server::demo(&[]).await;
    let body = scan().to_string();
    let mut wire = Wire::connect(&server).await;
    wire.send_head(&length(body.len() + 1)).await;
    wire.send(&body).await;
    wire.finish_sending().await.unwrap();
    assert_refused(&wire.answer().await, 400, INVALID_BODY, "a truncated body");
}

#[apply(test)]
async fn malformed_chunks_get_400() {
    let server = Server::demo(&[]).await;
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
async fn missing_body_counts_as_empty() {
    let server = Server::demo(&[]).await;
    for headers in ["", "content-length: 0\r\n"] {
        assert_one_within(IMMEDIATE, headers, async || {
            let mut wire = Wire::connect(&server).await;
            wire.send_head(headers).await;
            assert_refused(&wire.answer().await, 400, INVALID_BODY, headers);
            wire.elapsed()
        })
        .await;
    }
}
