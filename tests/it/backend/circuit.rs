//! The circuit breaker. A key that makes the backend fail must not stop look-ups of other keys, nor cause a 500
//! while the backend answers other look-ups. `src/directory/backend/guard.rs` tests when the breaker opens and closes.

use crate::trials::{apply, test};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::backend::{lookup_count, shopper, verify, verify_timed, wait_until_backend_is_used};
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::{Answer, Server, scan_with_key};

/// Knows every key, except that it replies `poison` to keys that begin with "poison".
fn answer_all_but_poison(backend: &Backend, poison: Reply) {
    backend.set_answerer(move |lookup| {
        let is_poison = lookup["value"].as_str().unwrap().starts_with("poison");
        if is_poison { poison.clone() } else { Reply::json(&shopper()) }
    });
}

#[apply(test)]
async fn an_unanswered_key_gets_429_while_other_keys_are_answered() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.timeout", "300ms")]).await;
    for poison in [Reply::Status(500, String::new()), Reply::Bytes(Vec::new()), Reply::Silence] {
        answer_all_but_poison(&backend, poison.clone());
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "before the failure");
        let body = scan_with_key(b"poison");
        for _ in 0..10 {
            assert_too_many(&server.verify(&retry(&body)).await, &format!("{poison:?}"));
        }
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "another key, while one key fails");
        assert_eq!(server.readiness().await, "ready");
        backend.set_reply(Reply::json(&shopper()));
        assert_granted(&server.verify(&retry(&body)).await, "v1", "SHOPPER", "the 429 was not recorded");
    }
}

/// Without other scans, the connector asks about a made-up key to find out whether the key is the cause.
#[apply(test)]
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
            // A new connector for each case, which has not sent a look-up request yet.
            let server = server.replica().await;
            let reply = poison.clone();
            backend.set_answerer(move |lookup| {
                let is_poison = lookup["value"].as_str().unwrap().starts_with("poison");
                if is_poison { reply.clone() } else { Reply::not_found() }
            });
            let before = (backend.requests().len(), backend.made_up().len());
            assert_too_many(&verify(&server, &key).await, &format!("{what}, {kind}"));
            assert_eq!(server.readiness().await, "ready");
            assert_eq!(lookup_count(&server, "made_up").await, 1, "{what}, {kind}");
            let store = backend.requests()[before.0].json()["storeId"].clone();
            let made_up = backend.made_up().split_off(before.1);
            let is_probe = |lookup: &Value| lookup["kind"] == kind && lookup["storeId"] == store;
            assert!(made_up.iter().any(|(_, lookup)| is_probe(lookup)), "{what}, {kind}: {made_up:?}");
        }
    }
    let made_up = backend.made_up();
    let keys: std::collections::HashSet<_> = made_up.iter().map(|(_, lookup)| lookup["value"].as_str()).collect();
    assert_eq!(keys.len(), made_up.len(), "all different");
    assert!(keys.iter().all(|key| key.unwrap().len() == 32), "the length of a token: {keys:?}");
}

async fn many_scans(server: &Arc<Server>, name: &str, size: usize) -> Vec<Answer> {
    verify_concurrently(server, (0..size).map(|number| scan_with_key(format!("{name} {number}").as_bytes())).collect())
        .await
}

#[apply(test)]
async fn many_unanswered_keys_open_the_breaker_so_that_later_scans_do_not_wait() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::Silence);
    let server = Arc::new(backend.connector(&[]).await);
    many_scans(&server, "first", 40).await;
    assert_eq!(server.readiness().await, "degraded");
    let before = backend.requests().len();
    let mut waited = 0;
    for number in 0..20 {
        let (answer, elapsed) = verify_timed(&server, &format!("later {number}")).await;
        assert_refused(&answer, 500, OUR_FAULT, "the breaker is open");
        waited += usize::from(elapsed > Duration::from_millis(300));
    }
    let sent = backend.requests().len() - before;
    assert!(waited <= 10 && sent <= 10, "{waited} of 20 scans waited, {sent} look-up requests were sent");
    wait_until_backend_is_used(&server, &backend).await;
    for number in 0..20 {
        assert_granted(&verify(&server, &format!("after {number}")).await, "v1", "SHOPPER", "the breaker is closed");
    }
    assert_eq!(server.readiness().await, "ready");
}

/// Many such keys at the same time, without any other scan.
#[apply(test)]
async fn many_unanswered_keys_at_the_same_time_get_429() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "1200ms")]).await);
    for (name, poison) in [("poison a", Reply::Status(500, String::new())), ("poison b", Reply::Silence)] {
        answer_all_but_poison(&backend, poison);
        many_scans(&server, name, 40).await.iter().for_each(|answer| assert_too_many(answer, name));
        assert_eq!(server.readiness().await, "ready", "{name}");
    }
    assert_eq!(lookup_count(&server, "not_asked").await, 0);
}

/// The backend recovers while an attacker keeps showing a key that is never answered.
#[apply(test)]
async fn an_unanswered_key_cannot_keep_the_breaker_open() {
    let backend = Backend::start().await;
    let server = Arc::new(backend.connector(&[("directory.timeout", "400ms")]).await);
    backend.set_reply(Reply::Silence);
    many_scans(&server, "first", 40).await;
    assert_eq!(server.readiness().await, "degraded");
    answer_all_but_poison(&backend, Reply::Silence);
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
    assert_eq!(server.readiness().await, "ready");
}
