//! A real provider, npm's `oidc-provider`, in a process of its own.

use crate::trials::{apply, test_that_needs};
use std::time::{Duration, Instant};

use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use crate::shopper::contexts::accepts_pair;
use crate::shopper::key_rotation::{assert_unavailable, retry_until_accepted};
use crate::support::npm::{self, Script};
use crate::support::shopper::{UNLIMITED, assert_token_refused, claims, context, part, with_token};
use crate::support::{Server, client_without_credentials, free_port};

/// The resource for which tokens are requested.
const RESOURCE: &str = "https://shop.example.com/api";

/// A test that needs provider.
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

    fn stop(&mut self) {
        self.running = None;
    }

    /// Restarts the provider, which makes new keys with these ids.
    fn restart(&mut self, keys: &[&str]) {
        self.stop();
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.running.is_none() {
            assert!(Instant::now() < deadline, "the provider does not restart");
            self.running = run(&self.port, keys);
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn token(&self, resource: &str) -> String {
        let request = client_without_credentials().post(self.url("/token")).basic_auth("app", Some("secret"));
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let form = format!("grant_type=client_credentials&resource={resource}");
        let answer: Value = request.body(form).send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn connector(&self) -> Server {
        let issuer = self.url("");
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
async fn token_is_accepted() {
    let provider = RealProvider::start(&["one", "two"]);
    let server = provider.connector().await;
    let token = provider.token(RESOURCE).await;
    assert_eq!(part(&token, 0), json!({ "alg": "RS256", "typ": "at+jwt", "kid": "one" }));
    assert_eq!((&claims(&token)["sub"], &claims(&token)["aud"]), (&json!("app"), &json!(RESOURCE)));
    let shopper = with_token(&server, &token).await;
    assert_eq!(shopper.anonymous_id, None);
    assert!(accepts_pair(&server, &token, &shopper.context).await);
    server.clock.advance(Duration::from_secs(700));
    assert_token_refused(&server, &token, "token_expired", "ten minutes later").await;
}

#[apply(with_provider)]
async fn token_for_another_resource_is_refused() {
    let provider = RealProvider::start(&["one"]);
    let server = provider.connector().await;
    let token = provider.token("https://other.example.com").await;
    assert_token_refused(&server, &token, "wrong_audience", "another resource").await;
}

#[apply(with_provider)]
async fn keys_may_change() {
    let mut provider = RealProvider::start(&["old"]);
    let server = provider.connector().await;
    let old = provider.token(RESOURCE).await;
    assert_eq!(context(&server, &old).await.status, 200);
    provider.restart(&["new"]);
    assert_eq!(context(&server, &old).await.status, 200, "the new keys are not fetched yet");
    let new = provider.token(RESOURCE).await;
    assert_eq!(context(&server, &new).await.status, 200, "the first token with the new key");
    assert_token_refused(&server, &old, "unknown_signing_key", "its key was withdrawn").await;
}

#[apply(with_provider)]
async fn provider_may_be_down_and_come_back() {
    let mut provider = RealProvider::start(&["one"]);
    let server = provider.connector().await;
    let token = provider.token(RESOURCE).await;
    assert_eq!(context(&server, &token).await.status, 200);
    provider.stop();
    assert_eq!(context(&server, &token).await.status, 200, "its keys are kept");
    // A connector that starts meanwhile has no keys.
    let late = provider.connector().await;
    assert_unavailable(&context(&late, &token).await);
    provider.restart(&["two"]);
    let token = provider.token(RESOURCE).await;
    assert_eq!(context(&server, &token).await.status, 200);
    retry_until_accepted(&late, &token).await;
}
