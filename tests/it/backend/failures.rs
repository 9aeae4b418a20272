//! A backend that is slow or down: scans are answered in time, as the API contract says; nothing is recorded; recovery
//! needs no action.

use crate::trials::{apply, test};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{lookup_count, shopper, verify, verify_timed, wait_until_backend_is_used};
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::scan_with_key;

/// The default time-out and a margin. On a busy machine one attempt may take longer.
const IN_TIME: Duration = Duration::from_millis(1_450);

/// All ways in which a backend does not answer.
fn failure_replies() -> Vec<(&'static str, Reply)> {
    let bytes = |text: &str| Reply::Bytes(text.as_bytes().to_vec());
    vec![
        ("500", Reply::Status(500, String::new())),
        ("502", Reply::Status(502, "<html>Bad Gateway</html>".to_owned())),
        ("503", Reply::Status(503, shopper().to_string())),
        ("599", Reply::Status(599, String::new())),
        ("a connection that is closed immediately", bytes("")),
        ("a head that ends half way", bytes("HTTP/1.1 200 OK\r\ncontent-le")),
        ("a body that ends half way", bytes("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"shopper\":")),
        ("a chunk that ends half way", bytes("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10\r\n{")),
        ("not HTTP", bytes("220 smtp.example.com ESMTP\r\n")),
        ("silence", Reply::Silence),
    ]
}

#[apply(test)]
async fn without_an_answer_a_scan_gets_500_in_time_and_is_not_recorded() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    for (what, failure) in failure_replies() {
        assert_one_within(IN_TIME, what, async || {
            // A new connector for each case, which has not sent a look-up request yet.
            let server = server.replica().await;
            backend.set_reply(failure.clone());
            let body = scan_with_key(what.as_bytes());
            let began = std::time::Instant::now();
            assert_refused(&server.verify(&body).await, 500, OUR_FAULT, what);
            let took = began.elapsed();
            backend.set_reply(Reply::json(&shopper()));
            assert_granted(&server.verify(&retry(&body)).await, "v1", "SHOPPER", &format!("the retry after {what}"));
            assert_eq!(server.sessions().await.len(), 1, "{what}");
            took
        })
        .await;
    }
}

#[apply(test)]
async fn a_stalled_body_times_out_like_a_stalled_head() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.timeout", "300ms")]).await;
    // The rest of the body never comes.
    backend.set_reply(Reply::Stalled(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec()));
    assert_one_within(Duration::from_millis(900), "a stalled body", async || {
        let server = server.replica().await;
        let (answer, elapsed) = verify_timed(&server, "badge").await;
        assert_refused(&answer, 500, OUR_FAULT, "the body stalls");
        assert!(elapsed > Duration::from_millis(290), "{elapsed:?}");
        assert_eq!(lookup_count(&server, "timeout").await, 1);
        elapsed
    })
    .await;
}

#[apply(test)]
async fn a_slow_answer_is_accepted_within_the_time_out() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::After(Duration::from_millis(300), 200, shopper().to_string()));
    let server = backend.connector(&[]).await;
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "a slow answer");
    backend.set_reply(Reply::After(Duration::from_millis(1_000), 200, shopper().to_string()));
    assert_eq!(
        server.replica().await.verify(&scan_with_key(b"badge")).await.status,
        500,
        "an answer after the time-out"
    );
}

/// Even with the longest time-out for the backend, a scan is answered within its own deadline.
#[apply(test)]
async fn the_longest_time_out_ends_before_the_deadline_of_the_scan() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.timeout", "1200ms")]).await;
    backend.set_reply(Reply::Silence);
    assert_one_within(Duration::from_millis(1_480), "a backend that does not answer", async || {
        let server = server.replica().await;
        let (answer, elapsed) = verify_timed(&server, "badge").await;
        assert_refused(&answer, 500, OUR_FAULT, "the backend does not answer");
        assert_eq!(lookup_count(&server, "timeout").await, 1);
        elapsed
    })
    .await;
}

#[apply(test)]
async fn scans_fail_immediately_while_the_backend_is_down_and_pass_when_it_is_up() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[]).await;
    let recorded = scan_with_key(b"badge");
    assert_granted(&server.verify(&recorded).await, "v1", "SHOPPER", "before the failure");
    assert_eq!(server.readiness().await, "ready");
    backend.stop().await;
    let mut took = Vec::new();
    for number in 0..10 {
        let (answer, elapsed) = verify_timed(&server, &format!("badge {number}")).await;
        assert_refused(&answer, 500, OUR_FAULT, "the backend is down");
        took.push(elapsed);
    }
    assert_most_within(50, Duration::from_millis(400), &took, "the backend is down");
    assert_eq!(server.readiness().await, "degraded");
    assert_eq!(metric(&server, "connector_identity_backend_up").await, 0);
    assert!(lookup_count(&server, "not_asked").await >= 5);
    assert_granted(
        &server.verify(&retry(&recorded)).await,
        "v1",
        "SHOPPER",
        "a recorded event, while other scans fail",
    );
    assert_granted(
        &verify(&server, "associate_key").await,
        "associate-uuid-001",
        "ASSOCIATE",
        "a key of the directory",
    );
    backend.resume().await;
    wait_until_backend_is_used(&server, &backend).await;
    assert_eq!(
        (server.readiness().await.as_str(), metric(&server, "connector_identity_backend_up").await),
        ("ready", 1)
    );
}

/// A server may close a connection just when it is used again. The connector then asks a second time.
#[apply(test)]
async fn lookup_request_is_sent_again_once_if_its_connection_closes() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    let first = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let seen = Arc::clone(&first);
    backend.set_answerer(move |_| {
        if seen.swap(false, std::sync::atomic::Ordering::SeqCst) {
            Reply::Bytes(Vec::new())
        } else {
            Reply::json(&shopper())
        }
    });
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "at the second attempt");
    backend.set_reply(Reply::Bytes(Vec::new()));
    assert_eq!(server.replica().await.verify(&scan_with_key(b"other")).await.status, 500);
    let counts = (backend.requests().len(), backend.made_up().len());
    assert_eq!(counts, (4, 2), "exactly twice each: two keys and one made-up key");
}

/// One connector sees all kinds of failure in turn.
#[apply(test)]
async fn the_connector_recovers_after_every_kind_of_failure() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.timeout", "400ms")]).await;
    let mut number = 0;
    let mut next = || {
        number += 1;
        format!("badge {number}")
    };
    for round in 0..2 {
        wait_until_backend_is_used(&server, &backend).await;
        let what = format!("round {round}");
        assert_granted(&verify(&server, &next()).await, "v1", "SHOPPER", &what);
        for failure in [Reply::Silence, Reply::Status(500, String::new())] {
            backend.set_reply(failure);
            for _ in 0..6 {
                let (answer, elapsed) = verify_timed(&server, &next()).await;
                assert!([429, 500].contains(&answer.status), "{what}: {} {elapsed:?}", answer.status);
            }
            wait_until_backend_is_used(&server, &backend).await;
        }
        for invalid_reply in
            [Reply::Status(200, "nonsense".to_owned()), Reply::Endless, Reply::Status(401, String::new())]
        {
            backend.set_reply(invalid_reply);
            assert_refused(&verify(&server, &next()).await, 401, KEY_NOT_FOUND, &what);
        }
        backend.stop().await;
        for _ in 0..6 {
            assert_refused(&verify(&server, &next()).await, 500, OUR_FAULT, &what);
        }
        backend.resume().await;
    }
    wait_until_backend_is_used(&server, &backend).await;
    assert_eq!(server.readiness().await, "ready");
}
