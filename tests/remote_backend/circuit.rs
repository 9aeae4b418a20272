//! What a key can bring about, and what it cannot: neither that others are not asked about, nor, while they are answered, a fault.

use std::sync::Arc;
use std::time::Duration;

use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{self, Answer, Server, scan_with_key};
use crate::{came_to, readiness, shopper, timed, until_up, verify};

/// Knows everybody but those whose key begins with `poison`, for whom it does this.
fn poisoned(backend: &Backend, poison: Reply) {
    backend.answers(move |question| {
        let is_poison = question["value"].as_str().unwrap().starts_with("poison");
        if is_poison { poison.clone() } else { Reply::json(&shopper()) }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_answered_is_no_fault_where_others_are() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.timeout", "300ms")]).await;
    for poison in [Reply::Status(500, String::new()), Reply::Bytes(Vec::new()), Reply::Silence] {
        poisoned(&backend, poison.clone());
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "before");
        let body = scan_with_key(b"poison");
        for _ in 0..10 {
            assert_too_many(&server.verify(&retry(&body)).await, &format!("{poison:?}"));
        }
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "others, meanwhile");
        assert_eq!(readiness(&server).await, "ready");
        backend.always(Reply::json(&shopper()));
        assert_granted(&server.verify(&retry(&body)).await, "v1", "SHOPPER", "nothing was recorded of it");
    }
}

/// In a quiet hour too: the connector asks about a key that it makes up, and so finds out whose fault it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_answered_is_no_fault_though_it_is_the_only_one() {
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
            // A connector of its own for each, which nobody has asked anything before.
            let server = server.replica().await;
            let reply = poison.clone();
            backend.answers(move |question| {
                let is_poison = question["value"].as_str().unwrap().starts_with("poison");
                if is_poison { reply.clone() } else { Reply::not_found() }
            });
            let before = backend.asked().len();
            assert_too_many(&verify(&server, &key).await, &format!("{what}, {kind}"));
            assert_eq!(readiness(&server).await, "ready");
            assert_eq!(came_to(&server, "made_up").await, 1, "{what}, {kind}");
            let asked: Vec<_> = backend.asked()[before..].iter().map(support::backend::Asked::json).collect();
            let made_up =
                asked.iter().find(|question| question["value"].as_str().unwrap().starts_with("connectorprobe"));
            let made_up = made_up.unwrap_or_else(|| panic!("{what}: {asked:?}"));
            assert_eq!((made_up["kind"].as_str(), &made_up["storeId"]), (Some(kind), &asked[0]["storeId"]), "{what}");
            assert_eq!(made_up["value"].as_str().unwrap().len(), 32, "it may be a token");
        }
    }
    let asked: Vec<_> = backend.asked().iter().map(support::backend::Asked::json).collect();
    let made_up: Vec<_> =
        asked.iter().filter(|question| question["value"].as_str().unwrap().starts_with("connector")).collect();
    let distinct: std::collections::HashSet<_> = made_up.iter().map(|question| question["value"].as_str()).collect();
    assert_eq!((made_up.len(), distinct.len()), (8, 8), "no two are the same");
}

/// Distinct ones too, as long as others are answered in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_keys_that_are_not_answered_among_others_open_nothing() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    poisoned(&backend, Reply::Status(503, String::new()));
    for number in 0..50 {
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "somebody");
        for twin in ["a", "b"] {
            assert_too_many(&verify(&server, &format!("poison {number}{twin}")).await, "a poison");
        }
    }
    assert_eq!((came_to(&server, "not_asked").await, came_to(&server, "unavailable").await), (0, 100));
}

/// An attacker who is alone at a gate provokes nothing for those who come after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_alone_for_ever_opens_nothing() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[]).await);
    poisoned(&backend, Reply::Status(500, String::new()));
    let answers = at_once(&server, (0..100).map(|_| scan_with_key(b"poison")).collect()).await;
    answers.iter().for_each(|answer| assert_too_many(answer, "the key's own doing"));
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "somebody else, at once");
    assert_eq!(came_to(&server, "not_asked").await, 0);
}

async fn crowd(server: &Arc<Server>, name: &str, size: usize) -> Vec<Answer> {
    at_once(server, (0..size).map(|number| scan_with_key(format!("{name} {number}").as_bytes())).collect()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_is_not_answered_spares_those_after_it_the_wait() {
    let backend = Backend::start().await;
    backend.always(Reply::Silence);
    let server = Arc::new(backend.connector(&[]).await);
    crowd(&server, "crowd", 40).await;
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

/// However many come at once, and though they are all that comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_keys_that_are_not_answered_is_no_fault() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "1200ms")]).await);
    for (name, poison) in [("poison a", Reply::Status(500, String::new())), ("poison b", Reply::Silence)] {
        poisoned(&backend, poison);
        crowd(&server, name, 40).await.iter().for_each(|answer| assert_too_many(answer, name));
        assert_eq!(readiness(&server).await, "ready", "{name}");
    }
    assert_eq!(came_to(&server, "not_asked").await, 0);
}

/// It was gone, and is back, while an attacker shows a key that is never answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_key_that_is_not_answered_cannot_keep_it_open() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "400ms")]).await);
    backend.always(Reply::Silence);
    crowd(&server, "crowd", 40).await;
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
        assert!(began.elapsed() < PATIENCE, "the attacker keeps it open");
        tokio::time::sleep(Duration::from_millis(100)).await; // as a gate does between attempts
    }
    attacker.abort();
    assert_eq!(readiness(&server).await, "ready");
}
