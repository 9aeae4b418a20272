//! Customer contexts: each is made for one bearer token and refused with any other.

use crate::trials::{apply, test};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::checks::{assert_json, assert_refused};
use crate::support::shopper::{
    CONTEXTS, Shopper, UNLIMITED, anonymous, assert_unauthorized, context, context_for, get, reason_of, send, token,
    with_token,
};
use crate::support::{Answer, Server};

/// A path that needs both headers.
const CART: &str = "/commerceapi/cart/";

/// The name and the bytes of a header. The bytes need not be text.
type Header<'a> = (&'a str, &'a [u8]);

/// Asks for the cart with these headers.
pub(crate) async fn request_cart(server: &Server, headers: &[Header<'_>]) -> Answer {
    let request = headers.iter().fold(get(server, CART), |request, (name, value)| {
        request.header(*name, HeaderValue::from_bytes(value).expect("the bytes are valid in a header"))
    });
    send(request).await
}

/// Whether the connector accepts this token with this context. A refusal must be the usual 401.
pub(crate) async fn accepts_pair(server: &Server, token: &str, context: &str) -> bool {
    let answer = get_cart(server, token, context).await;
    if answer.status == 401 {
        assert_unauthorized(&answer, context);
    } else {
        assert_eq!(answer.status, 200, "{context}");
    }
    answer.status == 200
}

async fn get_cart(server: &Server, token: &str, context: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    request_cart(server, &[("authorization", bearer.as_bytes()), ("x-customer-context", context.as_bytes())]).await
}

/// Asserts that the context is refused with this token, for this reason.
async fn assert_context_refused(server: &Server, token: &str, context: &str, reason: &str, what: &str) {
    let (passes, found) = reason_of(server, accepts_pair(server, token, context)).await;
    assert_eq!((passes, found.as_str()), (false, reason), "{what}");
}

#[apply(test)]
async fn answer_has_the_published_form() {
    let server = Server::demo(&[]).await;
    let token = token(&server, &json!({})).await;
    let answer = context(&server, &token).await;
    let context = answer.json()["customerContext"].clone();
    assert!(context.as_str().is_some_and(|context| !context.is_empty()), "{context}");
    assert_json(&answer, 200, &json!({ "isAnonymous": true, "customerContext": context }), "the answer");
    assert_eq!(answer.headers["cache-control"], "no-store");
    for scheme in ["bearer", "BEARER", "Bearer ", "Bearer   "] {
        assert_eq!(context_for(&server, format!("{scheme} {token}").as_bytes()).await.status, 200, "{scheme}");
    }
}

#[apply(test)]
async fn context_is_opaque_and_each_one_is_new() {
    let server = Server::demo(&[]).await;
    let shopper = anonymous(&server).await;
    let again = with_token(&server, &shopper.token).await;
    assert_ne!(shopper.context, again.context);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&shopper.context).unwrap();
    let id: uuid::Uuid = shopper.anonymous_id.as_deref().unwrap().parse().unwrap();
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(
        !contains(id.as_bytes()) && !contains(id.to_string().as_bytes()) && !contains(b"anonymous"),
        "the context reveals the customer"
    );
    assert!(shopper.context.len() < 200, "too long for a header: {}", shopper.context.len());
}

#[apply(test)]
async fn context_request_needs_a_bearer_token() {
    let server = Server::demo(&UNLIMITED).await;
    let token = token(&server, &json!({})).await;
    let other_token = crate::support::shopper::token(&server, &json!({})).await;
    let without = send(get(&server, CONTEXTS)).await;
    assert_unauthorized(&without, "no headers");
    for (value, reason) in [
        ("", "no_token"),
        ("Bearer", "no_token"),
        ("Bearer ", "no_token"),
        (&*format!("Basic {token}"), "no_token"),
        (&token, "no_token"),
        (&format!("Bearer:{token}"), "no_token"),
        (&format!("Bearer {token},"), "wrong_signature"),
        (&format!("Bearer {token} x"), "wrong_signature"),
        (&format!("Bearer \"{token}"), "malformed_token"),
        ("Bearer x", "malformed_token"),
    ] {
        let (answer, found) = reason_of(&server, context_for(&server, value.as_bytes())).await;
        assert_eq!(found, reason, "{value}");
        assert_unauthorized(&answer, value);
    }
    for second in [&token, &other_token] {
        let twice = get(&server, CONTEXTS).bearer_auth(&token).header("authorization", format!("Bearer {second}"));
        let (answer, found) = reason_of(&server, send(twice)).await;
        assert_eq!(found, "no_token", "two headers");
        assert_unauthorized(&answer, "two headers");
    }
    for (name, value) in [("x-auth-key", "demo-authorization-key"), ("cookie", &format!("access_token={token}"))] {
        assert_unauthorized(&send(get(&server, CONTEXTS).header(name, value)).await, name);
    }
    let in_query = get(&server, &format!("{CONTEXTS}?access_token={token}"));
    assert_unauthorized(&send(in_query).await, "token in the query");
}

#[apply(test)]
async fn both_headers_are_needed() {
    let server = Server::demo(&UNLIMITED).await;
    let Shopper { token, context, .. } = anonymous(&server).await;
    assert!(accepts_pair(&server, &token, &context).await);
    let bearer = format!("Bearer {token}");
    let only: [(&[Header<'_>], &str); 4] = [
        (&[], "no_token"),
        (&[("authorization", bearer.as_bytes())], "no_customer_context"),
        (&[("authorization", bearer.as_bytes()), ("x-customer-context", b"")], "no_customer_context"),
        (&[("x-customer-context", context.as_bytes())], "no_token"),
    ];
    for (headers, reason) in only {
        let (answer, found) = reason_of(&server, request_cart(&server, headers)).await;
        assert_unauthorized(&answer, reason);
        assert_eq!(found, reason);
    }
}

#[apply(test)]
async fn context_is_valid_only_with_its_token() {
    let server = Server::demo(&UNLIMITED).await;
    let first_shopper = anonymous(&server).await;
    let second_shopper = anonymous(&server).await;
    server.clock.advance(Duration::from_secs(1));
    let renewed = token(&server, &json!({ "anonymousId": first_shopper.anonymous_id })).await;
    assert_ne!(renewed, first_shopper.token);
    let renewed = with_token(&server, &renewed).await;
    assert_eq!(renewed.anonymous_id, first_shopper.anonymous_id);
    for (token, context, what) in [
        (&first_shopper.token, &second_shopper.context, "another customer's context"),
        (&second_shopper.token, &first_shopper.context, "another customer's token"),
        (&renewed.token, &first_shopper.context, "a renewed token of the same customer"),
        (&first_shopper.token, &renewed.context, "the context of a renewed token"),
        (&first_shopper.token, &first_shopper.token, "a token as the context"),
    ] {
        assert_context_refused(&server, token, context, "wrong_customer_context", what).await;
    }
    for shopper in [first_shopper, second_shopper, renewed] {
        assert!(accepts_pair(&server, &shopper.token, &shopper.context).await);
    }
}

#[apply(test)]
async fn context_expires_with_its_token() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    server.clock.advance(Duration::from_secs(7198));
    assert!(accepts_pair(&server, &shopper.token, &shopper.context).await);
    server.clock.advance(Duration::from_secs(2));
    assert_context_refused(&server, &shopper.token, &shopper.context, "token_expired", "at the end of its token").await;
    let renewed = token(&server, &json!({ "anonymousId": shopper.anonymous_id })).await;
    assert_context_refused(&server, &renewed, &shopper.context, "wrong_customer_context", "with a renewed token").await;
}

#[apply(test)]
async fn context_with_a_changed_bit_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&shopper.context).unwrap();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let context = BASE64_URL_SAFE_NO_PAD.encode(flipped);
        assert!(!accepts_pair(&server, &shopper.token, &context).await, "bit {bit}");
    }
    for length in 0..bytes.len() {
        let context = BASE64_URL_SAFE_NO_PAD.encode(&bytes[..length]);
        assert!(!accepts_pair(&server, &shopper.token, &context).await, "{length} bytes");
    }
    let longer = BASE64_URL_SAFE_NO_PAD.encode([&bytes[..], &[0]].concat());
    assert_context_refused(&server, &shopper.token, &longer, "wrong_customer_context", "a longer context").await;
    let long = "A".repeat(8_000);
    assert_context_refused(&server, &shopper.token, &long, "wrong_customer_context", "over-long").await;
    assert!(accepts_pair(&server, &shopper.token, &shopper.context).await);
}

#[apply(test)]
async fn only_one_spelling_of_a_context_is_accepted() {
    let server = Server::demo(&UNLIMITED).await;
    let shopper = anonymous(&server).await;
    let padded = format!("{}=", shopper.context);
    let spaced = format!("{} {}", &shopper.context[..4], &shopper.context[4..]);
    let quoted = format!("\"{}\"", shopper.context);
    for context in [&*padded, &spaced, &quoted, "=", "Bearer", "null", "{}", "."] {
        assert_context_refused(&server, &shopper.token, context, "wrong_customer_context", context).await;
    }
    let bearer = format!("Bearer {}", shopper.token);
    let not_text = [shopper.context.as_bytes(), b"\xff"].concat();
    let answer =
        request_cart(&server, &[("authorization", bearer.as_bytes()), ("x-customer-context", &not_text)]).await;
    assert_refused(&answer, 401, "Unauthorized", "a context that is not text");
}

#[apply(test)]
async fn repeated_context_header_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let Shopper { token, context, .. } = anonymous(&server).await;
    let bearer = format!("Bearer {token}");
    let good = ("x-customer-context", context.as_bytes());
    for second in [good, ("x-customer-context", b"x"), ("x-customer-context", b"")] {
        for both in [[good, second], [second, good]] {
            let answer = request_cart(&server, &[&[("authorization", bearer.as_bytes())][..], &both].concat()).await;
            assert_unauthorized(&answer, "two headers");
        }
    }
}
