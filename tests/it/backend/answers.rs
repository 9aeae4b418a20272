//! Valid and malformed answers of the identity backend.

use crate::trials::{apply, test};
use serde_json::json;

use crate::backend::{lookup_count, shopper, verify};
use crate::checks::*;
use crate::support::backend::{Backend, Reply};

/// A valid answer with this length in bytes.
fn answer_with_length(bytes: usize) -> String {
    let json = shopper().to_string();
    format!("{json}{}", " ".repeat(bytes - json.len()))
}

/// `src/directory/backend/client.rs` tests which answers are malformed.
#[apply(test)]
async fn a_malformed_answer_counts_as_not_found() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    let bytes = |body: &[u8]| Reply::Bytes([b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", body].concat());
    let text = |body: &str| Reply::Status(200, body.to_owned());
    let replies = [
        text(""),
        text("OK"),
        text(&"[".repeat(10_000)),
        text(r#"{"shopper": {"id": "v1", "type": "MANAGER"}}"#),
        text(&answer_with_length(16 * 1024 + 1)),
        text(&answer_with_length(1024 * 1024)),
        bytes(b"\xff\xfe"),
    ];
    let count = replies.len();
    for (number, reply) in replies.into_iter().enumerate() {
        backend.set_reply(reply.clone());
        assert_refused(&verify(&server, &format!("key {number}")).await, 401, KEY_NOT_FOUND, &format!("{reply:?}"));
        backend.set_reply(Reply::json(&shopper()));
        assert_granted(&verify(&server, &format!("key {number}")).await, "v1", "SHOPPER", "the next answer");
    }
    assert_eq!(lookup_count(&server, "malformed").await, count as u64);
}

#[apply(test)]
async fn a_valid_answer_is_accepted() {
    let backend = Backend::start().await;
    let server = backend.connector(&[("answer.payment_source", "true")]).await;
    let visitor = |kind: &str| json!({ "visitorDetails": { "id": "v1", "type": kind } });
    let full = json!({
        "shopper": { "id": "v1", "type": "ASSOCIATE", "account": "active",
                     "paymentMethod": { "lastMonth": "2029-06", "id": "pm-1" } },
        "device": "d1", "channel": "OPTICAL", "revoked": false,
    });
    let mut with_all = visitor("ASSOCIATE");
    with_all["shopperDeviceId"] = json!("d1");
    let without =
        json!({ "shopper": { "id": "v1", "type": "SHOPPER", "paymentMethod": null }, "device": null, "channel": null });
    for (number, (body, expected)) in [
        (shopper().to_string(), visitor("SHOPPER")),
        (without.to_string(), visitor("SHOPPER")),
        (format!(" \r\n\t{} \n", shopper()), visitor("SHOPPER")),
        (answer_with_length(16 * 1024), visitor("SHOPPER")),
        (full.to_string(), with_all),
    ]
    .into_iter()
    .enumerate()
    {
        backend.set_reply(Reply::Status(200, body.clone()));
        let answer = verify(&server, &format!("key {number}")).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.json());
        for member in ["visitorDetails", "shopperDeviceId"] {
            assert_eq!(answer.json().get(member), expected.get(member), "{body}");
        }
    }
    assert_eq!(lookup_count(&server, "found").await, 5);
}

#[apply(test)]
async fn every_status_has_its_documented_meaning() {
    let backend = Backend::start().await;
    let elsewhere = Backend::start().await;
    elsewhere.set_reply(Reply::json(&shopper()));
    let server = backend.connector(&[]).await;
    let good = shopper().to_string();
    for (outcome, statuses) in [
        ("not_found", &[404, 410][..]),
        ("refused", &[400, 401, 402, 403, 405, 406, 407, 408, 409, 411, 413, 415, 418, 422, 451, 499]),
        ("malformed", &[201, 202, 203, 206, 299, 300]),
    ] {
        for status in statuses {
            // The body does not matter, only the status.
            backend.set_reply(Reply::Status(*status, good.clone()));
            let what = format!("{status}");
            assert_refused(&verify(&server, &what).await, 401, KEY_NOT_FOUND, &what);
        }
        assert_eq!(lookup_count(&server, outcome).await, statuses.len() as u64, "{outcome}");
    }
    for status in [204, 304] {
        backend.set_reply(Reply::Bytes(format!("HTTP/1.1 {status} X\r\n\r\n").into_bytes()));
        assert_refused(&verify(&server, &status.to_string()).await, 401, KEY_NOT_FOUND, &status.to_string());
    }
    for status in [301, 302, 303, 307, 308] {
        let head = format!("HTTP/1.1 {status} X\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url());
        backend.set_reply(Reply::Bytes(head.into_bytes()));
        assert_refused(&verify(&server, &status.to_string()).await, 401, KEY_NOT_FOUND, &status.to_string());
    }
    assert_eq!(elsewhere.requests().len(), 0, "no redirect is followed");
    assert_eq!(lookup_count(&server, "malformed").await, 6 + 2 + 5);
}

#[apply(test)]
async fn a_429_of_the_backend_is_passed_on_and_not_recorded() {
    let backend = Backend::start().await;
    backend.set_reply(Reply::Status(429, String::new()));
    let server = backend.connector(&[]).await;
    let body = crate::support::scan_with_key(b"badge");
    for _ in 0..3 {
        assert_too_many(&server.verify(&retry(&body)).await, "the backend answered 429");
    }
    backend.set_reply(Reply::json(&shopper()));
    assert_granted(&server.verify(&retry(&body)).await, "v1", "SHOPPER", "the retry");
    assert_eq!((lookup_count(&server, "busy").await, server.sessions().await.len()), (3, 1));
}

/// An endless body, and one with a large content-length: the connector waits for neither.
#[apply(test)]
async fn a_huge_answer_is_not_read_to_its_end() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    for (number, reply) in [
        Reply::Endless,
        Reply::Bytes([b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n".to_vec(), vec![b' '; 1 << 20]].concat()),
    ]
    .into_iter()
    .enumerate()
    {
        backend.set_reply(reply);
        // If the connector read on, the time-out would make this a 500.
        assert_refused(&verify(&server, &format!("key {number}")).await, 401, KEY_NOT_FOUND, "a huge answer");
    }
    assert_eq!(lookup_count(&server, "malformed").await, 2);
}

/// The examples in `docs/identity-backend.md`.
#[apply(test)]
async fn the_documented_examples_are_accepted() {
    let backend = Backend::start().await;
    let server = backend.connector(&[]).await;
    let page = include_str!("../../../docs/identity-backend.md");
    let examples: Vec<&str> = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let answers = [(200, ""), (401, FLAGGED), (401, INVALID_KEY)];
    assert_eq!(examples.len(), answers.len());
    for (number, (example, (status, message))) in examples.into_iter().zip(answers).enumerate() {
        backend.set_reply(Reply::Status(200, example.to_owned()));
        let answer = verify(&server, &format!("badge {number}")).await;
        assert_eq!((answer.status, answer.message().unwrap_or_default().as_str()), (status, message), "{example}");
    }
    assert_eq!(lookup_count(&server, "found").await, 3);
}
