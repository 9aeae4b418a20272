//! A provider's keys over time: fetched in the background, kept while the provider is down, and fetched again for a
//! token that no known key verifies.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::checks::{PATIENCE, assert_too_many, set, wait_until};
use crate::support::keys::{Key, rsa};
use crate::support::provider::{AUDIENCE, Document, Provider};
use crate::support::shopper::{ACCEPTED, CONTEXTS, anonymous, assert_tokens, context, get, retry_until_accepted, send};
use crate::support::{Answer, Server, scan};

const ES256: (&str, &str) = ("commerce.identity_providers.test.algorithms", "ES256");
const UNKNOWN: &str = "unknown_signing_key";
const WRONG: &str = "wrong_signature";

/// The claims of a customer without an earlier valid token.
fn claims_of_new_customer(claims: &Value, number: usize) -> Value {
    set(claims.clone(), "sub", format!("new-customer-{number}"))
}

/// Sends all requests at the same time. Returns each answer with the time it took.
async fn send_concurrently(requests: impl Iterator<Item = RequestBuilder>) -> Vec<(Answer, Duration)> {
    let mut running = JoinSet::new();
    for request in requests {
        running.spawn(async {
            let began = Instant::now();
            (send(request).await, began.elapsed())
        });
    }
    running.join_all().await
}

#[apply(test)]
async fn first_token_with_a_new_key_causes_one_fetch() {
    let [old, new, newest] = ["old", "new", "newest"].map(Key::ec);
    let (provider, server, claims) = Provider::trusted(&[&old], &[ES256]).await;
    assert_tokens(&server, [("old", old.token(&claims), ACCEPTED)]).await;
    assert_eq!(provider.fetches(), 1);
    provider.publish(&[&new, &old]);
    assert_tokens(&server, [("new", new.token(&claims), ACCEPTED), ("old", old.token(&claims), ACCEPTED)]).await;
    assert_eq!((provider.fetches(), provider.discoveries()), (2, 2));
    provider.publish(&[&newest]);
    server.clock.advance(Duration::from_secs(11));
    let rows = [(&newest, ACCEPTED), (&old, UNKNOWN), (&new, UNKNOWN)];
    assert_tokens(&server, rows.map(|(key, expected)| (key.id, key.token(&claims), expected))).await;
    assert_eq!((provider.fetches(), provider.discoveries()), (3, 3));
}

/// The provider does not announce its new key: it has the id of the old one, or no id.
#[apply(test)]
async fn key_replaced_under_the_same_id_is_accepted_immediately() {
    for name in [json!("key"), Value::Null] {
        let [old, new] = [Key::ec("key"), Key::ec("key")];
        let publish = |provider: &Provider, key: &Key| {
            provider.key_set(Document::Json(json!({ "keys": [set(key.jwk(), "kid", name.clone())] })));
        };
        let provider = Provider::start(&[]).await;
        publish(&provider, &old);
        let server = provider.connector(&[ES256]).await;
        let claims = provider.claims(server.clock.now());
        let token = |key: &Key| key.token_with(&json!({ "alg": "ES256", "kid": name }), &claims);
        assert_tokens(&server, [("the first key", token(&old), ACCEPTED)]).await;
        publish(&provider, &new);
        assert_tokens(&server, [("the new key", token(&new), ACCEPTED), ("the withdrawn key", token(&old), WRONG)])
            .await;
        assert_eq!(provider.fetches(), 2, "{name}");
    }
}

#[apply(test)]
async fn invalid_tokens_cause_at_most_one_fetch_a_minute() {
    let [published_key, other_key] = [Key::ec("one"), Key::ec("other")];
    let (provider, server, claims) = Provider::trusted(&[&published_key], &[ES256]).await;
    let valid = || [("valid", published_key.token(&claims), ACCEPTED)];
    assert_tokens(&server, valid()).await;
    let send_invalid_tokens = async |number: usize| {
        let claims = claims_of_new_customer(&claims, number);
        let made_up = json!({ "alg": "ES256", "kid": format!("made-up-{number}") });
        let rows = [
            ("a made-up key id", other_key.token_with(&made_up, &claims), UNKNOWN),
            ("a forged signature", other_key.token_with(&published_key.header(), &claims), WRONG),
        ];
        assert_tokens(&server, rows).await;
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
    assert_tokens(&server, valid()).await;
    // The limit also applies to simultaneous requests.
    server.clock.advance(Duration::from_secs(61));
    let token = other_key.token(&claims);
    let all = send_concurrently((0..20).map(|_| get(&server, CONTEXTS).bearer_auth(&token))).await;
    assert!(all.iter().all(|(answer, _)| answer.status == 401));
    assert_eq!(provider.fetches(), 4, "one fetch for simultaneous requests");
}

#[apply(test)]
async fn invalid_tokens_do_not_delay_a_new_key() {
    let [old, new, newest, other] = [Key::ec("old"), Key::ec("new"), Key::ec("new"), Key::ec("other")];
    let (provider, server, claims) = Provider::trusted(&[&old], &[ES256]).await;
    assert_tokens(&server, [("the first key", old.token(&claims), ACCEPTED)]).await;
    let send_invalid_tokens = async || {
        for (number, kid) in ["made-up", "made-up-too", "old", "new"].into_iter().enumerate() {
            let header = json!({ "alg": "ES256", "kid": kid });
            let token = other.token_with(&header, &claims_of_new_customer(&claims, number));
            assert_eq!(context(&server, &token).await.status, 401, "{kid}");
        }
    };
    send_invalid_tokens().await;
    provider.publish(&[&new]);
    assert_tokens(&server, [("a new key with a new id", new.token(&claims), ACCEPTED)]).await;
    // Fetches for customers have a limit as well.
    provider.publish(&[&newest]);
    send_invalid_tokens().await;
    assert_tokens(&server, [("before the next fetch is permitted", newest.token(&claims), WRONG)]).await;
    server.clock.advance(Duration::from_secs(11));
    send_invalid_tokens().await;
    assert_tokens(&server, [("a new key with the same id", newest.token(&claims), ACCEPTED)]).await;
    assert_eq!(provider.fetches(), 4, "one at the start, one for invalid tokens, one for each change");
}

#[apply(test)]
async fn token_with_invalid_claims_causes_no_fetch() {
    let (provider, server, claims) = Provider::trusted(&[rsa()], &[]).await;
    let header = json!({ "alg": "RS256", "kid": "unknown" });
    let unknown = |claim: &str, value: &str| rsa().token_with(&header, &set(claims.clone(), claim, value));
    let rows = [
        ("valid", rsa().token(&claims), ACCEPTED),
        ("aud", unknown("aud", "other"), "wrong_audience"),
        ("exp", unknown("exp", "x"), "malformed_token"),
        ("sub", unknown("sub", ""), "no_customer"),
        ("iss", unknown("iss", "https://evil.example"), "unknown_issuer"),
    ];
    assert_tokens(&server, rows).await;
    assert_eq!(provider.fetches(), 1);
}

#[apply(test)]
async fn keys_are_kept_while_the_provider_is_down() {
    let new = Key::rsa("new");
    let (provider, server, _) = Provider::trusted(&[rsa()], &[]).await;
    let token = |key: &Key| key.token(&provider.claims(server.clock.now()));
    assert_tokens(&server, [("the provider is up", token(rsa()), ACCEPTED)]).await;
    provider.stop().await;
    let is_kept = async |what: &str| {
        assert_tokens(&server, [(what, token(&new), UNKNOWN), (what, token(rsa()), ACCEPTED)]).await;
    };
    is_kept("the provider is down").await;
    server.clock.advance(Duration::from_secs(3600));
    assert_tokens(&server, [("an hour later", token(rsa()), ACCEPTED)]).await;
    provider.key_set(Document::Json(json!({ "keys": [] })));
    provider.resume().await;
    is_kept("the provider publishes no keys").await;
    assert!(provider.fetches() > 1, "the empty key set was fetched");
    // The connector repeats a failed fetch, so it gets a new key without a request that needs it.
    provider.publish(&[&new]);
    wait_until("the token is accepted", async || context(&server, &token(&new)).await.status == 200).await;
}

/// Sends `number` simultaneous requests with unsigned tokens that name unknown keys, while the provider does not
/// answer. Returns how many requests waited for it, and the answers to the others, which were refused immediately.
async fn send_invalid_tokens_while_the_provider_is_silent(
    settings: &[(&str, &str)],
    number: usize,
) -> (usize, Vec<Answer>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (provider, server, claims) = Provider::trusted(&[rsa()], settings).await;
        let valid = rsa().token(&claims);
        assert_eq!(context(&server, &valid).await.status, 200);
        provider.key_set(Document::Silence);
        let request = |number: usize| {
            let token = rsa().token_with(&json!({ "alg": "RS256", "kid": format!("made-up-{number}") }), &claims);
            get(&server, CONTEXTS).bearer_auth(format!("{}.AAAA", token.rsplit_once('.').unwrap().0))
        };
        let began = Instant::now();
        let answers = send_concurrently((0..number).map(request)).await;
        let took = began.elapsed();
        assert_eq!(provider.fetches(), 2, "a fetch is running");
        assert_eq!(context(&server, &valid).await.status, 200, "a token with a known key does not wait");
        let (waited, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(answer, _)| answer.status == 401);
        // A request waits for 3 s, and the fetch takes 5 s. So within 4.5 s no request waited after another one. On a
        // busy machine it may take longer, and then it is tried again.
        let is_immediate = refused.iter().all(|(_, took)| *took < Duration::from_millis(2_500));
        if took < Duration::from_millis(4_500) && is_immediate {
            return (waited.len(), refused.into_iter().map(|(answer, _)| answer).collect());
        }
        assert!(Instant::now() < deadline, "the other requests are not refused immediately; all took {took:?}");
    }
}

#[apply(test)]
async fn client_with_made_up_key_ids_is_limited_before_it_waits() {
    let few = [("commerce.requests_per_second", "1"), ("commerce.burst", "5")];
    let (waited, refused) = send_invalid_tokens_while_the_provider_is_silent(&few, 30).await;
    assert!((1..=8).contains(&waited), "{waited} waited");
    refused.iter().for_each(|answer| assert_too_many(answer, "too many requests of one client"));
}

#[apply(test)]
async fn at_most_32_requests_wait_for_a_silent_provider() {
    let (waited, refused) = send_invalid_tokens_while_the_provider_is_silent(&[], 100).await;
    assert!((1..=32).contains(&waited), "{waited} waited");
    refused.iter().for_each(|answer| assert_too_many(answer, "too many requests wait"));
}

#[apply(test)]
async fn provider_that_is_down_at_the_start_affects_only_its_customers_until_it_is_back() {
    let (down, up) = (Provider::not_started(), Provider::start(&[rsa()]).await);
    down.publish(&[rsa()]);
    let issuer = down.issuer();
    let settings = [
        ("commerce.identity_providers.down.issuer", &*issuer),
        ("commerce.identity_providers.down.audience", AUDIENCE),
    ];
    let server: Server = up.connector(&settings).await;
    let [of_down, of_up] = [&down, &up].map(|provider| provider.claims(server.clock.now()));
    let token = rsa().token(&of_down);
    let rows = [
        ("its customer", token.clone(), "identity_provider_unavailable"),
        ("claims are checked without keys", rsa().token(&set(of_down, "exp", 5)), "token_expired"),
        ("another provider's customer", rsa().token(&of_up), ACCEPTED),
    ];
    assert_tokens(&server, rows).await;
    anonymous(&server).await;
    assert_eq!(server.verify(&scan()).await.status, 200, "the gate is still answered");
    assert_eq!(send(get(&server, "/readyz")).await.status, 200, "the connector stays ready");
    down.resume().await;
    retry_until_accepted(&server, &token).await;
}
