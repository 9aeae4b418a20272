//! A provider's keys over time: fetched in the background, kept while the provider is down, and fetched again for a
//! token that no known key verifies.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checks::{assert_error_form, assert_too_many};
use crate::support::keys::{Key, rsa};
use crate::support::provider::{Document, Provider};
use crate::support::shopper::{anonymous, assert_token_refused, context, reason_of};
use crate::support::{Answer, Server};

const ES256: (&str, &str) = ("commerce.identity_providers.test.algorithms", "ES256");
/// The deadline for anything that happens in the background.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Sends requests with a token until one is accepted.
pub(crate) async fn retry_until_accepted(server: &Server, token: &str) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = context(server, token).await;
        if answer.status == 200 {
            return;
        }
        assert_unavailable(&answer);
        assert!(Instant::now() < deadline, "the token is not accepted in time");
        tokio::time::sleep(Duration::from_millis(20)).await; // poll until the deadline above
    }
}

/// Asserts the 503 for a provider whose keys were never fetched.
#[track_caller]
pub(crate) fn assert_unavailable(answer: &Answer) {
    assert_error_form(answer, 503, "no keys were fetched");
    let seconds = answer.headers["retry-after"].to_str().unwrap();
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1), "Retry-After {seconds}");
}

#[apply(test)]
async fn new_key_is_accepted_after_one_fetch() {
    let [old, new] = [Key::rsa("old"), Key::rsa("new")];
    let provider = Provider::start(&[&old]).await;
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &old.token(&claims)).await.status, 200);
    assert_eq!(provider.fetches(), 1);
    provider.publish(&[&new, &old]);
    assert_eq!(context(&server, &new.token(&claims)).await.status, 200, "the first token with the new key");
    assert_eq!(context(&server, &old.token(&claims)).await.status, 200, "both keys are published");
    assert_eq!((provider.fetches(), provider.discoveries()), (2, 2));
}

/// The provider does not announce its new key: it has the id of the old one, or no id.
#[apply(test)]
async fn key_replaced_under_the_same_id_is_accepted_immediately() {
    for name in [Some("key"), None] {
        let [old, new] = [Key::ec("key"), Key::ec("key")];
        let publish = |provider: &Provider, key: &Key| {
            let mut jwk = key.jwk();
            jwk["kid"] = name.into();
            provider.key_set(Document::Json(json!({ "keys": [jwk] })));
        };
        let token = |key: &Key, claims: &Value| {
            let mut header = json!({ "alg": "ES256" });
            if let Some(name) = name {
                header["kid"] = name.into();
            }
            key.token_with(&header, claims)
        };
        let provider = Provider::start(&[]).await;
        publish(&provider, &old);
        let server = provider.connector(&[ES256]).await;
        let claims = provider.claims(server.clock.now());
        assert_eq!(context(&server, &token(&old, &claims)).await.status, 200, "{name:?}");
        publish(&provider, &new);
        assert_eq!(
            context(&server, &token(&new, &claims)).await.status,
            200,
            "{name:?}: the first token with the new key"
        );
        assert_token_refused(&server, &token(&old, &claims), "wrong_signature", "a withdrawn key").await;
        assert_eq!(provider.fetches(), 2, "{name:?}");
    }
}

#[apply(test)]
async fn invalid_tokens_cause_at_most_one_fetch_a_minute() {
    let [published_key, other_key] = [Key::ec("one"), Key::ec("other")];
    let provider = Provider::start(&[&published_key]).await;
    let server = provider.connector(&[ES256]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &published_key.token(&claims)).await.status, 200);
    let send_invalid_tokens = async |number: usize| {
        let claims = claims_of_new_customer(&claims, number);
        let unknown = other_key.token_with(&json!({ "alg": "ES256", "kid": format!("made-up-{number}") }), &claims);
        assert_token_refused(&server, &unknown, "unknown_signing_key", "a made-up key id").await;
        let forged = other_key.token_with(&published_key.header(), &claims);
        assert_token_refused(&server, &forged, "wrong_signature", "a forged signature").await;
    };
    for number in 0..10 {
        send_invalid_tokens(number).await;
    }
    assert_eq!(provider.fetches(), 2, "one fetch for all of them");
    server.clock.advance(Duration::from_secs(59));
    send_invalid_tokens(20).await;
    assert_eq!(provider.fetches(), 2, "no second fetch within a minute");
    server.clock.advance(Duration::from_secs(2));
    send_invalid_tokens(21).await;
    send_invalid_tokens(22).await;
    assert_eq!(provider.fetches(), 3, "one more fetch");
    assert_eq!(context(&server, &published_key.token(&claims)).await.status, 200);
    // The limit also applies to simultaneous requests.
    server.clock.advance(Duration::from_secs(61));
    let token = other_key.token(&claims);
    let all = run_concurrently((0..20).map(|_| context(&server, &token))).await;
    assert!(all.iter().all(|answer| answer.status == 401));
    assert_eq!(provider.fetches(), 4, "one fetch for simultaneous requests");
}

/// Invalid tokens do not delay the first valid token with a new key.
#[apply(test)]
async fn invalid_tokens_do_not_delay_a_new_key() {
    let [old, new, newest, other] = [Key::ec("old"), Key::ec("new"), Key::ec("new"), Key::ec("other")];
    let provider = Provider::start(&[&old]).await;
    let server = provider.connector(&[ES256]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &old.token(&claims)).await.status, 200);
    let send_invalid_tokens = async || {
        for (number, kid) in ["made-up", "made-up-too", "old", "new"].into_iter().enumerate() {
            let header = json!({ "alg": "ES256", "kid": kid });
            let token = other.token_with(&header, &claims_of_new_customer(&claims, number));
            assert_eq!(context(&server, &token).await.status, 401, "{kid}");
        }
    };
    send_invalid_tokens().await;
    provider.publish(&[&new]);
    assert_eq!(context(&server, &new.token(&claims)).await.status, 200, "a new key with a new id");
    // Fetches for customers have a limit as well.
    provider.publish(&[&newest]);
    send_invalid_tokens().await;
    assert_token_refused(&server, &newest.token(&claims), "wrong_signature", "before the next fetch is permitted")
        .await;
    server.clock.advance(Duration::from_secs(11));
    send_invalid_tokens().await;
    assert_eq!(context(&server, &newest.token(&claims)).await.status, 200, "a new key with the same id");
    assert_eq!(provider.fetches(), 4, "one at the start, one for invalid tokens, one for each change");
}

/// The claims of a customer without an earlier valid token.
fn claims_of_new_customer(claims: &Value, number: usize) -> Value {
    let mut claims = claims.clone();
    claims["sub"] = format!("new-customer-{number}").into();
    claims
}

/// Runs all futures concurrently.
async fn run_concurrently<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.map(Box::pin).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|cx| {
        running.retain_mut(|future| match future.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if running.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers
}

#[apply(test)]
async fn token_with_invalid_claims_causes_no_fetch() {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200);
    let header = json!({ "alg": "RS256", "kid": "unknown" });
    for (claim, value) in [("aud", "other"), ("exp", "x"), ("sub", ""), ("iss", "https://evil.example")] {
        let mut claims = claims.clone();
        claims[claim] = value.into();
        assert_eq!(context(&server, &rsa().token_with(&header, &claims)).await.status, 401, "{claim}");
    }
    assert_eq!(provider.fetches(), 1);
}

#[apply(test)]
async fn keys_are_kept_while_the_provider_is_down() {
    let new = Key::rsa("new");
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(&[]).await;
    let claims = |server: &Server| provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims(&server))).await.status, 200);
    provider.stop().await;
    let unknown = new.token(&claims(&server));
    assert_token_refused(&server, &unknown, "unknown_signing_key", "the provider is down").await;
    assert_eq!(context(&server, &rsa().token(&claims(&server))).await.status, 200, "the previous keys are kept");
    server.clock.advance(Duration::from_secs(3600));
    assert_eq!(context(&server, &rsa().token(&claims(&server))).await.status, 200, "an hour later");
    for broken in [Document::Status(500), Document::Text("<html>".to_owned()), Document::Json(json!({"keys": []}))] {
        provider.key_set(broken);
        provider.resume().await;
        server.clock.advance(Duration::from_secs(61));
        assert_token_refused(
            &server,
            &new.token(&claims(&server)),
            "unknown_signing_key",
            "a new key while the document is invalid",
        )
        .await;
        assert_eq!(context(&server, &rsa().token(&claims(&server))).await.status, 200, "the previous keys are kept");
        provider.stop().await;
    }
    // The provider is available again, with another key. The connector repeats a failed fetch, so it gets the key
    // without a request that needs it.
    provider.publish(&[&new]);
    provider.resume().await;
    let deadline = Instant::now() + TIMEOUT;
    while context(&server, &new.token(&claims(&server))).await.status != 200 {
        assert!(Instant::now() < deadline, "the token is not accepted in time");
        tokio::time::sleep(Duration::from_millis(20)).await; // poll until the deadline above
    }
}

#[apply(test)]
async fn withdrawn_key_is_refused_after_the_next_fetch() {
    let [old, new] = [Key::rsa("old"), Key::rsa("new")];
    let provider = Provider::start(&[&old]).await;
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &old.token(&claims)).await.status, 200);
    provider.publish(&[&new]);
    assert_eq!(context(&server, &new.token(&claims)).await.status, 200);
    assert_token_refused(&server, &old.token(&claims), "unknown_signing_key", "a withdrawn key").await;
}

/// Sends `number` simultaneous requests with unsigned tokens that name unknown keys, while the provider does not answer. Returns
/// the immediate answers, and the number of requests that waited.
async fn send_invalid_tokens_while_the_provider_is_silent(
    settings: &[(&str, &str)],
    number: usize,
) -> (Vec<Answer>, usize) {
    let provider = Provider::start(&[rsa()]).await;
    let server = provider.connector(settings).await;
    let claims = provider.claims(server.clock.now());
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200);
    provider.key_set(Document::Silence);
    let token = |number: usize| {
        let header = serde_json::json!({ "alg": "RS256", "kid": format!("made-up-{number}") });
        let token = rsa().token_with(&header, &claims);
        format!("{}.AAAA", token.rsplit_once('.').unwrap().0)
    };
    let tokens: Vec<String> = (0..number).map(token).collect();
    let ask = async |token: &String| {
        let began = Instant::now();
        let answer = context(&server, token).await;
        (answer, began.elapsed())
    };
    let answers = run_concurrently(tokens.iter().map(ask)).await;
    assert_eq!(provider.fetches(), 2, "a fetch is running");
    let waited = |took: &Duration| *took > Duration::from_millis(2_500);
    let long = answers.iter().filter(|(_, took)| waited(took)).count();
    assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200, "a token with a known key does not wait");
    (answers.into_iter().filter(|(_, took)| !waited(took)).map(|(answer, _)| answer).collect(), long)
}

#[apply(test)]
async fn client_with_made_up_key_ids_is_limited_before_it_waits() {
    let few = [("commerce.requests_per_second", "1"), ("commerce.burst", "5")];
    let (immediate, waited) = send_invalid_tokens_while_the_provider_is_silent(&few, 30).await;
    assert!((1..=8).contains(&waited), "{waited} waited");
    assert!(immediate.iter().all(|answer| answer.status == 429), "the other requests are refused immediately");
}

#[apply(test)]
async fn at_most_32_requests_wait_for_a_silent_provider() {
    let (immediate, waited) = send_invalid_tokens_while_the_provider_is_silent(&[], 100).await;
    assert!((1..=32).contains(&waited), "{waited} waited");
    immediate.iter().for_each(|answer| assert_too_many(answer, "too many requests wait"));
}

#[apply(test)]
async fn provider_that_is_down_at_the_start_is_tried_again() {
    let provider = Provider::not_started();
    provider.publish(&[rsa()]);
    let server = provider.connector(&[]).await;
    let claims = provider.claims(server.clock.now());
    let token = rsa().token(&claims);
    let (answer, reason) = reason_of(&server, context(&server, &token)).await;
    assert_unavailable(&answer);
    assert_eq!(reason, "identity_provider_unavailable");
    let mut late = claims.clone();
    late["exp"] = 5.into();
    assert_token_refused(&server, &rsa().token(&late), "token_expired", "the claims are checked without keys").await;
    provider.resume().await;
    retry_until_accepted(&server, &token).await;
}

#[apply(test)]
async fn provider_that_is_down_does_not_affect_the_rest() {
    let [down, up] = [Provider::not_started(), Provider::start(&[rsa()]).await];
    let (issuer, audience) = (down.issuer(), "shop");
    let down_provider = [
        ("commerce.identity_providers.down.issuer", &*issuer),
        ("commerce.identity_providers.down.audience", audience),
    ];
    let server = up.connector(&down_provider).await;
    assert_unavailable(&context(&server, &rsa().token(&down.claims(server.clock.now()))).await);
    assert_eq!(context(&server, &rsa().token(&up.claims(server.clock.now()))).await.status, 200);
    anonymous(&server).await;
    assert_eq!(server.verify(&crate::support::scan()).await.status, 200, "the gate is still answered");
    let ready = crate::support::shopper::send(crate::support::shopper::get(&server, "/readyz")).await;
    assert_eq!(ready.status, 200, "the connector stays ready");
}
