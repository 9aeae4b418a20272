//! The cache of answers. The unit tests in `src/directory/backend/guard.rs` test when an answer expires.

use crate::trials::{apply, test};
use std::time::Duration;

use serde_json::json;

use crate::backend::{directory_with_backend, shopper, verify};
use crate::checks::*;
use crate::support::backend::{Backend, Reply};
use crate::support::scan_with_key;

#[apply(test)]
async fn by_default_no_answer_is_cached() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[]).await;
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "the first scan");
    backend.set_reply(Reply::json(&json!({ "revoked": true })));
    assert_refused(&verify(&server, "badge").await, 401, INVALID_KEY, "the change takes effect immediately");
}

#[apply(test)]
async fn a_known_key_is_cached_by_key_store_and_channel() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[("directory.cache_for", "60s")]).await;
    for _ in 0..5 {
        assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "a cached answer");
    }
    assert_eq!(
        (backend.requests().len(), metric(&server, "connector_identity_backend_remembered_total").await),
        (1, 4)
    );
    for body in [
        set(scan_with_key(b"badge"), "storeId", "STORE-002"),
        set(scan_with_key(b"badge"), "keyChannel", "RADIO"),
        unset(scan_with_key(b"badge"), "keyChannel"),
        scan_with_key(b"badge2"),
    ] {
        let before = backend.requests().len();
        assert_granted(&server.verify(&body).await, "v1", "SHOPPER", "another look-up");
        assert_eq!(backend.requests().len(), before + 1, "{body}");
    }
    let exit = set(scan_with_key(b"badge"), "authEvent.location", "EXIT");
    assert_granted(&server.verify(&exit).await, "v1", "SHOPPER", "the location is not part of the look-up request");
    assert_eq!(backend.requests().len(), 5);
    backend.stop().await;
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "while the backend is down");
}

#[apply(test)]
async fn unknown_keys_and_invalid_answers_are_not_cached() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("directory.cache_for", "60s")]).await;
    for (number, reply) in [Reply::not_found(), Reply::Status(403, String::new()), Reply::Status(200, "{}".to_owned())]
        .into_iter()
        .enumerate()
    {
        let key = format!("badge {number}");
        backend.set_reply(reply);
        assert_refused(&verify(&server, &key).await, 401, KEY_NOT_FOUND, &key);
        backend.set_reply(Reply::json(&shopper()));
        assert_granted(&verify(&server, &key).await, "v1", "SHOPPER", "just registered");
    }
}

/// A shopper that is erased here must not be found in the cache.
#[apply(test)]
async fn a_change_of_the_directory_clears_the_cache() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[("directory.cache_for", "60s")]).await;
    assert_granted(&verify(&server, "badge").await, "v1", "SHOPPER", "the first scan");
    backend.set_reply(Reply::not_found());
    server.put("shoppers/v2", &json!({ "type": "SHOPPER" })).await;
    assert_refused(&verify(&server, "badge").await, 401, KEY_NOT_FOUND, "the backend is asked again");
}

/// An erasure waits as long as other connectors may use cached answers.
#[apply(test)]
async fn the_maximum_staleness_is_the_time_for_which_answers_are_cached() {
    let backend = Backend::start().await;
    assert_eq!(directory_with_backend(&backend, Duration::ZERO).max_staleness(), Duration::ZERO);
    assert_eq!(directory_with_backend(&backend, Duration::from_secs(7)).max_staleness(), Duration::from_secs(7));
}
