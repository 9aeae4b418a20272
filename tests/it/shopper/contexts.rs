//! Customer contexts: each is made for one bearer token and refused with any other.

use crate::trials::{apply, test};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use crate::checks::{assert_json, set};
use crate::support::Server;
use crate::support::carts::CARTS;
use crate::support::keys::rsa;
use crate::support::provider::Provider;
use crate::support::shopper::{
    ACCEPTED, AUTH_KEY, CONTEXTS, Shopper, UNLIMITED, anonymous, assert_outcomes, assert_unauthorized, context, get,
    get_carts, send, token, with_token,
};

const CONTEXT: &str = "x-customer-context";
const WRONG: &str = "wrong_customer_context";

#[apply(test)]
async fn answer_has_the_published_form() {
    let server = Server::demo(&[]).await;
    let answer = context(&server, &token(&server, &json!({})).await).await;
    let context = answer.json()["customerContext"].clone();
    assert!(context.as_str().is_some_and(|context| !context.is_empty()), "{context}");
    assert_json(&answer, 200, &json!({ "isAnonymous": true, "customerContext": context }), "the answer");
}

#[apply(test)]
async fn context_is_opaque_and_each_one_is_new() {
    let server = Server::demo(&[]).await;
    let shopper = anonymous(&server).await;
    assert_ne!(shopper.context, with_token(&server, &shopper.token).await.context);
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&shopper.context).unwrap();
    let id: uuid::Uuid = shopper.anonymous_id.as_deref().unwrap().parse().unwrap();
    for part in [&id.as_bytes()[..], id.to_string().as_bytes(), b"anonymous"] {
        assert!(!bytes.windows(part.len()).any(|window| window == part), "the context reveals the customer");
    }
    assert!(shopper.context.len() < 200, "too long for a header: {}", shopper.context.len());
}

#[apply(test)]
async fn context_request_needs_one_bearer_token() {
    let server = Server::demo(&UNLIMITED).await;
    let (token, other_token) = (token(&server, &json!({})).await, token(&server, &json!({})).await);
    let values = [
        (format!("bearer {token}"), ACCEPTED),
        (format!("BEARER {token}"), ACCEPTED),
        (format!("Bearer    {token}"), ACCEPTED),
        (String::new(), "no_token"),
        ("Bearer".to_owned(), "no_token"),
        ("Bearer ".to_owned(), "no_token"),
        (format!("Basic {token}"), "no_token"),
        (token.clone(), "no_token"),
        (format!("Bearer:{token}"), "no_token"),
        (format!("Bearer {token},"), "wrong_signature"),
        (format!("Bearer {token} x"), "wrong_signature"),
        (format!("Bearer \"{token}"), "malformed_token"),
        ("Bearer x".to_owned(), "malformed_token"),
    ];
    let request = || get(&server, CONTEXTS);
    let with =
        |(value, expected)| (format!("authorization: {value}"), request().header("authorization", value), expected);
    assert_outcomes(&server, values.map(with)).await;
    let twice = |second: &str| request().bearer_auth(&token).bearer_auth(second);
    let others = [
        ("no header", request()),
        ("the token twice", twice(&token)),
        ("two tokens", twice(&other_token)),
        ("an authorization key", request().header("x-auth-key", AUTH_KEY)),
        ("a cookie", request().header("cookie", format!("access_token={token}"))),
        ("a parameter", get(&server, &format!("{CONTEXTS}?access_token={token}"))),
    ];
    assert_outcomes(&server, others.map(|(what, request)| (what, request, "no_token"))).await;
}

#[apply(test)]
async fn carts_need_one_context_in_its_only_spelling() {
    let server = Server::demo(&UNLIMITED).await;
    let Shopper { token, context, .. } = anonymous(&server).await;
    let without = || get(&server, CARTS).bearer_auth(&token);
    let mut rows = vec![
        ("both headers".to_owned(), get_carts(&server, &token, &context), ACCEPTED),
        ("neither header".to_owned(), get(&server, CARTS), "no_token"),
        ("no context".to_owned(), without(), "no_customer_context"),
        ("no token".to_owned(), get(&server, CARTS).header(CONTEXT, &context), "no_token"),
        (
            "not text".to_owned(),
            get_carts(&server, &token, [context.as_bytes(), b"\xff"].concat()),
            "no_customer_context",
        ),
    ];
    for (first, second) in [(&*context, &*context), (&context, "x"), ("x", &context), (&context, ""), ("", &context)] {
        let twice = without().header(CONTEXT, first).header(CONTEXT, second);
        rows.push((format!("{first} and {second}"), twice, "no_customer_context"));
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&context).unwrap();
    let wrong = [
        format!("{context}="),
        format!("{} {}", &context[..4], &context[4..]),
        format!("\"{context}\""),
        BASE64_URL_SAFE_NO_PAD.encode([&bytes[..], &[0]].concat()),
        "A".repeat(8_000),
        token.clone(),
    ];
    let wrong = wrong.into_iter().chain(["=", "Bearer", "null", "{}", "."].map(str::to_owned));
    rows.extend(wrong.map(|wrong| (wrong.clone(), get_carts(&server, &token, wrong), WRONG)));
    rows.push(("empty".to_owned(), get_carts(&server, &token, ""), "no_customer_context"));
    assert_outcomes(&server, rows).await;
}

#[apply(test)]
async fn context_with_a_changed_bit_is_refused() {
    let server = Server::demo(&UNLIMITED).await;
    let Shopper { token, context, .. } = anonymous(&server).await;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(&context).unwrap();
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 1 << (index % 8);
        for wrong in [&flipped, &bytes[..index]] {
            let context = BASE64_URL_SAFE_NO_PAD.encode(wrong);
            assert_unauthorized(&send(get_carts(&server, &token, &context)).await, &format!("{index}: {context}"));
        }
    }
}

#[apply(test)]
async fn context_is_valid_only_with_its_token() {
    let (_provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    let shopper = anonymous(&server).await;
    let other_shopper = anonymous(&server).await;
    let again = with_token(&server, &shopper.token).await;
    server.clock.advance(Duration::from_secs(1));
    let renewed = token(&server, &json!({ "anonymousId": shopper.anonymous_id })).await;
    let renewed = with_token(&server, &renewed).await;
    assert_eq!(renewed.anonymous_id, shopper.anonymous_id);
    let mut all = vec![("anonymous", shopper.clone()), ("another", other_shopper), ("anonymous, renewed", renewed)];
    for (what, claim, value) in [
        ("a customer", "sub", json!("customer-1")),
        ("the customer, renewed", "iat", json!(1)),
        ("another customer", "sub", json!("customer-2")),
    ] {
        all.push((what, with_token(&server, &rsa().token(&set(claims.clone(), claim, value))).await));
    }
    let pair = |(whose, one): &(&str, Shopper), (of, other): &(&str, Shopper)| {
        let expected = if one.token == other.token { ACCEPTED } else { WRONG };
        (format!("token of {whose}, context of {of}"), get_carts(&server, &one.token, &other.context), expected)
    };
    assert_outcomes(&server, all.iter().flat_map(|one| all.iter().map(move |other| pair(one, other)))).await;
    let second = get_carts(&server, &shopper.token, &again.context);
    assert_outcomes(&server, [("a second context of the same token", second, ACCEPTED)]).await;
}

#[apply(test)]
async fn context_expires_with_its_token() {
    let server = Server::demo(&UNLIMITED).await;
    let Shopper { token: old, context, anonymous_id, .. } = anonymous(&server).await;
    let request = |token: &str| get_carts(&server, token, &context);
    server.clock.advance(Duration::from_secs(7198));
    assert_outcomes(&server, [("before the end of its token", request(&old), ACCEPTED)]).await;
    server.clock.advance(Duration::from_secs(2));
    let renewed = token(&server, &json!({ "anonymousId": anonymous_id })).await;
    let rows = [("at the end of its token", &old, "token_expired"), ("with a renewed token", &renewed, WRONG)];
    assert_outcomes(&server, rows.map(|(what, token, expected)| (what, request(token), expected))).await;
}
