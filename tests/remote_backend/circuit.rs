//! The circuit breaker. A key that makes the backend fail must not stop questions about other keys, nor cause a 500
//! while the backend answers other questions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{Answer, Server, scan_with_key};
use crate::{question_count, readiness, shopper, timed, until_up, verify};

/// Knows every key, except that it replies `poison` to keys that begin with "poison".
fn poisoned(backend: &Backend, poison: Reply) {
    backend.answers(move |question| {
        let is_poison = question["value"].as_str().unwrap().starts_with("poison");
        if is_poison { poison.clone() } else { Reply::json(&shopper()) }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswered_key_gets_429_while_other_keys_are_answered() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.timeout", "300ms")]).await;
    for poison in [Reply::Status(500, String::new()), Reply::Bytes(Vec::new()), Reply::Silence] {
        poisoned(&backend, poison.clone());
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "before");
        let body = scan_with_key(b"poison");
        for _ in 0..10 {
            assert_too_many(&server.verify(&retry(&body)).await, &format!("{poison:?}"));
        }
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "another key meanwhile");
        assert_eq!(readiness(&server).await, "ready");
        backend.always(Reply::json(&shopper()));
        assert_granted(&server.verify(&retry(&body)).await, "v1", "SHOPPER", "the 429 was not recorded");
    }
}

/// Without other scans, the connector asks about a made-up key to find out whether the key is the cause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswered_key_gets_429_even_without_other_scans() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    let unsigned = |token: &str| code(SCANNED_AT, "").replace(TOKEN, token);
    for (what, poison) in [
        ("500", Reply::Status(500, String::new())),
        ("cut off", Reply::Bytes(Vec::new())),
        ("silence", Reply::Silence),
        ("a body that stalls", Reply::Stalled(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec())),
    ] {
        for (kind, key) in
            [("identity_key", "poison".to_owned()), ("recognition_token", unsigned(&"poison7".repeat(5)[..32]))]
        {
            // A new connector for each case, which has not sent a question yet.
            let server = server.replica().await;
            let reply = poison.clone();
            backend.answers(move |question| {
                let is_poison = question["value"].as_str().unwrap().starts_with("poison");
                if is_poison { reply.clone() } else { Reply::not_found() }
            });
            let before = (backend.asked().len(), backend.made_up().len());
            assert_too_many(&verify(&server, &key).await, &format!("{what}, {kind}"));
            assert_eq!(readiness(&server).await, "ready");
            assert_eq!(question_count(&server, "made_up").await, 1, "{what}, {kind}");
            let store = backend.asked()[before.0].json()["storeId"].clone();
            let made_up = backend.made_up().split_off(before.1);
            let is_probe = |question: &Value| question["kind"] == kind && question["storeId"] == store;
            assert!(made_up.iter().any(|(_, question)| is_probe(question)), "{what}, {kind}: {made_up:?}");
        }
    }
    let made_up = backend.made_up();
    let keys: std::collections::HashSet<_> = made_up.iter().map(|(_, question)| question["value"].as_str()).collect();
    assert_eq!(keys.len(), made_up.len(), "all different");
    assert!(keys.iter().all(|key| key.unwrap().len() == 32), "the length of a token: {keys:?}");
}

/// Many distinct keys do not open it either, while other keys are answered in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_unanswered_keys_among_answered_ones_do_not_open_the_breaker() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    poisoned(&backend, Reply::Status(503, String::new()));
    for number in 0..50 {
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "another key");
        for twin in ["a", "b"] {
            assert_too_many(&verify(&server, &format!("poison {number}{twin}")).await, "a poison");
        }
    }
    assert_eq!((question_count(&server, "not_asked").await, question_count(&server, "unavailable").await), (0, 100));
}

/// An attacker who is alone at a gate does not affect later shoppers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_unanswered_key_does_not_open_the_breaker() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[]).await);
    poisoned(&backend, Reply::Status(500, String::new()));
    let answers = at_once(&server, (0..100).map(|_| scan_with_key(b"poison")).collect()).await;
    answers.iter().for_each(|answer| assert_too_many(answer, "the key is the cause"));
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "another key, at once");
    assert_eq!(question_count(&server, "not_asked").await, 0);
}

async fn many_scans(server: &Arc<Server>, name: &str, size: usize) -> Vec<Answer> {
    at_once(server, (0..size).map(|number| scan_with_key(format!("{name} {number}").as_bytes())).collect()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_unanswered_keys_open_the_breaker_so_that_later_scans_do_not_wait() {
    let backend = Backend::start().await;
    backend.always(Reply::Silence);
    let server = Arc::new(backend.connector(&[]).await);
    many_scans(&server, "first", 40).await;
    assert_eq!(readiness(&server).await, "degraded");
    let asked = backend.asked().len();
    let mut waited = 0;
    for number in 0..20 {
        let (answer, elapsed) = timed(&server, &format!("later {number}")).await;
        assert_refused(&answer, 500, OUR_FAULT, "not asked");
        waited += usize::from(elapsed > Duration::from_millis(300));
    }
    let more = backend.asked().len() - asked;
    assert!(waited <= 10 && more <= 10, "{waited} of 20 waited, {more} were asked about");
    until_up(&server, &backend).await;
    for number in 0..20 {
        assert_granted(&verify(&server, &format!("after {number}")).await, "v1", "SHOPPER", "all are asked about");
    }
    assert_eq!(readiness(&server).await, "ready");
}

/// Many such keys at once, without any other scan.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_unanswered_keys_at_once_get_429() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "1200ms")]).await);
    for (name, poison) in [("poison a", Reply::Status(500, String::new())), ("poison b", Reply::Silence)] {
        poisoned(&backend, poison);
        many_scans(&server, name, 40).await.iter().for_each(|answer| assert_too_many(answer, name));
        assert_eq!(readiness(&server).await, "ready", "{name}");
    }
    assert_eq!(question_count(&server, "not_asked").await, 0);
}

/// The backend recovers while an attacker keeps showing a key that is never answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unanswered_key_cannot_keep_the_breaker_open() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "400ms")]).await);
    backend.always(Reply::Silence);
    many_scans(&server, "first", 40).await;
    assert_eq!(readiness(&server).await, "degraded");
    poisoned(&backend, Reply::Silence);
    let attacker = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            loop {
                verify(&server, "poison 1").await;
                tokio::time::sleep(Duration::from_millis(50)).await; // as fast as a gate reads
            }
        }
    });
    let began = std::time::Instant::now();
    let body = scan_with_key(b"badge");
    while server.verify(&retry(&body)).await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "the attacker keeps the breaker open");
        tokio::time::sleep(Duration::from_millis(100)).await; // as a gate does between attempts
    }
    attacker.abort();
    assert_eq!(readiness(&server).await, "ready");
}
