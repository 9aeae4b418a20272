//! What a key can bring about, and what it cannot: neither that others are not asked about, nor, while they are answered, a fault.

use std::sync::Arc;
use std::time::Duration;

use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{Server, scan_with_key};
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
    assert!(answers.iter().all(|answer| [429, 500].contains(&answer.status)));
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "somebody else, at once");
    assert_eq!(came_to(&server, "not_asked").await, 0);
}

async fn crowd(server: &Arc<Server>, name: &str, size: usize) {
    at_once(server, (0..size).map(|number| scan_with_key(format!("{name} {number}").as_bytes())).collect()).await;
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

/// Opened by an attacker with many keys, who goes on: the next honest shopper who is let through ends it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_opens_it_with_many_keys_cannot_keep_it_open() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "400ms")]).await);
    poisoned(&backend, Reply::Silence);
    crowd(&server, "poison", 40).await;
    assert_eq!(readiness(&server).await, "degraded");
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
