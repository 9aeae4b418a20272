//! A real provider, npm's `oidc-provider`, in a process of its own.

use crate::trials::{apply, test_that_needs};
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::checks::PATIENCE;
use crate::support::npm::{self, Script};
use crate::support::shopper::{
    ACCEPTED, UNLIMITED, assert_outcomes, assert_tokens, claims, get_carts, part, retry_until_accepted, with_token,
};
use crate::support::{Server, client_without_credentials, free_port};

/// The resource for which tokens are requested.
const RESOURCE: &str = "https://shop.example.com/api";

/// A test that needs the provider.
macro_rules! with_provider {
    ($($function:tt)*) => { test_that_needs! { || npm::missing("oidc-provider"); $($function)* } };
}

struct RealProvider {
    port: String,
    running: Option<Script>,
}

impl RealProvider {
    /// Starts the provider with a key for each of these ids; the first one signs.
    fn start(keys: &[&str]) -> Self {
        let try_one = |port: String| Some(Self { running: Some(run(&port, keys)?), port });
        let tries = std::iter::repeat_with(|| try_one(free_port().to_string()));
        tries.take(5).flatten().next().expect("the provider starts")
    }

    /// Starts the provider again. It makes new keys with these ids.
    fn restart(&mut self, keys: &[&str]) {
        self.running = None;
        let deadline = Instant::now() + PATIENCE;
        while self.running.is_none() {
            assert!(Instant::now() < deadline, "the provider does not restart");
            self.running = run(&self.port, keys);
        }
    }

    fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn token(&self, resource: &str) -> String {
        let request = client_without_credentials().post(format!("{}/token", self.issuer()));
        let request = request.basic_auth("app", Some("secret"));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let form = format!("grant_type=client_credentials&resource={resource}");
        let answer: Value = request.body(form).send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn connector(&self) -> Server {
        let issuer = self.issuer();
        let settings = [
            ("commerce.identity_providers.real.issuer", &*issuer),
            ("commerce.identity_providers.real.audience", RESOURCE),
        ];
        Server::demo(&[&UNLIMITED[..], &settings].concat()).await
    }
}

fn run(port: &str, keys: &[&str]) -> Option<Script> {
    Script::start("provider.mjs", &[&[port], keys].concat())
}

#[apply(with_provider)]
async fn token_is_accepted_until_it_expires() {
    let provider = RealProvider::start(&["one", "two"]);
    let server = provider.connector().await;
    let token = provider.token(RESOURCE).await;
    assert_eq!(part(&token, 0), json!({ "alg": "RS256", "typ": "at+jwt", "kid": "one" }));
    assert_eq!((&claims(&token)["sub"], &claims(&token)["aud"]), (&json!("app"), &json!(RESOURCE)));
    let shopper = with_token(&server, &token).await;
    assert_eq!(shopper.anonymous_id, None);
    assert_outcomes(&server, [("its context", get_carts(&server, &token, &shopper.context), ACCEPTED)]).await;
    let other = provider.token("https://other.example.com").await;
    assert_tokens(&server, [("another resource", other, "wrong_audience")]).await;
    server.clock.advance(Duration::from_secs(700));
    assert_tokens(&server, [("ten minutes later", token, "token_expired")]).await;
}

#[apply(with_provider)]
async fn keys_may_change_and_the_provider_may_be_down() {
    let mut provider = RealProvider::start(&["old"]);
    let server = provider.connector().await;
    let old = provider.token(RESOURCE).await;
    assert_tokens(&server, [("the first key", old.clone(), ACCEPTED)]).await;
    provider.running = None;
    assert_tokens(&server, [("the provider is down", old.clone(), ACCEPTED)]).await;
    // A connector that starts meanwhile has no keys.
    let late = provider.connector().await;
    assert_tokens(&late, [("no keys", old.clone(), "identity_provider_unavailable")]).await;
    provider.restart(&["new"]);
    let new = provider.token(RESOURCE).await;
    let rows = [
        ("the new keys are not fetched yet", old.clone(), ACCEPTED),
        ("the first token with the new key", new.clone(), ACCEPTED),
        ("its key was withdrawn", old, "unknown_signing_key"),
    ];
    assert_tokens(&server, rows).await;
    retry_until_accepted(&late, &new).await;
}
