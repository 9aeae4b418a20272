//! An app that speaks for a shopper: the tokens that it is given, and requests with them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::checks::assert_refused;
use super::{Answer, Server, secrets, stranger};

/// The demo's `X-Auth-Key`.
pub(crate) const AUTH_KEY: &str = "demo-authorization-key";
/// Where anonymous tokens are made.
pub(crate) const TOKENS: &str = "/commerceapi/authentication/";
/// Where customer contexts are made.
pub(crate) const CONTEXTS: &str = "/commerceapi/authentication/customercontext";

/// Settings with which no number of requests is too many.
pub(crate) const UNLIMITED: [(&str, &str); 2] =
    [("commerce.requests_per_second", "1000000"), ("commerce.burst", "1000000")];

/// A shopper with a token and the customer context that was made for it.
#[derive(Clone, Debug)]
pub(crate) struct Shopper {
    pub(crate) token: String,
    pub(crate) context: String,
    /// The `jti` of an anonymous one's token.
    pub(crate) anonymous_id: Option<String>,
    shoppers: String,
}

/// An anonymous one, whom nobody has seen before.
pub(crate) async fn anonymous(server: &Server) -> Shopper {
    with_token(server, &token(server, &json!({})).await).await
}

/// An anonymous one with that id.
pub(crate) async fn anonymous_with_id(server: &Server, id: &str) -> Shopper {
    with_token(server, &token(server, &json!({ "anonymousId": id })).await).await
}

/// Whoever holds this token, be it ours or a provider's.
pub(crate) async fn with_token(server: &Server, token: &str) -> Shopper {
    let answer = context(server, token).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    let is_anonymous = answer["isAnonymous"].as_bool().expect("a boolean");
    let shopper = Shopper {
        token: token.to_owned(),
        context: answer["customerContext"].as_str().expect("a text").to_owned(),
        anonymous_id: is_anonymous.then(|| claims(token)["jti"].as_str().expect("an id").to_owned()),
        shoppers: server.shoppers.clone(),
    };
    let secrets = [Some(&shopper.token), Some(&shopper.context), shopper.anonymous_id.as_ref()];
    secrets.into_iter().flatten().for_each(|secret| secrets::keep(secret));
    shopper
}

impl Shopper {
    /// The same with another connector.
    pub(crate) fn at(self, server: &Server) -> Self {
        Self { shoppers: server.shoppers.clone(), ..self }
    }

    /// A request with both headers to a path of the shopper's side.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = stranger().request(method, format!("{}{path}", self.shoppers));
        let request = request.bearer_auth(&self.token).header("x-customer-context", &self.context);
        let request = match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        Answer::of(request.send().await.unwrap()).await
    }
}

/// An anonymous token.
pub(crate) async fn token(server: &Server, body: &Value) -> String {
    let answer = ask_for_token(server, Some(AUTH_KEY), body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["accessToken"].as_str().expect("a text").to_owned()
}

/// Asks for an anonymous token with this key and body.
pub(crate) async fn ask_for_token(server: &Server, key: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
    let request = stranger().post(format!("{}{TOKENS}", server.shoppers)).body(body);
    let request = key.into_iter().fold(request, |request, key| request.header("x-auth-key", key));
    send(request).await
}

/// What becomes of a token where customer contexts are made.
pub(crate) async fn context(server: &Server, token: &str) -> Answer {
    send(get(server, CONTEXTS).bearer_auth(token)).await
}

/// The same, of a header that need not be text.
pub(crate) async fn context_for(server: &Server, authorization: &[u8]) -> Answer {
    let authorization = HeaderValue::from_bytes(authorization).expect("bytes that a header can have");
    send(get(server, CONTEXTS).header("authorization", authorization)).await
}

/// A request without any credentials.
pub(crate) fn get(server: &Server, path: &str) -> RequestBuilder {
    stranger().get(format!("{}{path}", server.shoppers))
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.unwrap()).await
}

/// What stands in a part of a token: 0 is the header, 1 are the claims.
pub(crate) fn part(token: &str, place: usize) -> Value {
    let part = token.split('.').nth(place).expect("a token has three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("Base64")).expect("JSON")
}

pub(crate) fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The one 401 that there is, whatever the reason.
#[track_caller]
pub(crate) fn assert_unauthorized(answer: &Answer, what: &str) {
    assert_refused(answer, 401, "Unauthorized", what);
    let headers = answer.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let mut headers: Vec<_> = headers.filter(|(name, _)| *name != "date").collect();
    headers.sort_unstable();
    let wanted = [
        ("cache-control", "no-store"),
        ("content-length", "26"),
        ("content-type", "application/json"),
        ("www-authenticate", "Bearer"),
        ("x-content-type-options", "nosniff"),
    ];
    assert_eq!(headers, wanted, "{what}");
}

/// How many requests to the shopper's side had no success, by the reason for the log.
pub(crate) async fn refusals(server: &Server) -> BTreeMap<String, u64> {
    let text = server.metrics().await;
    let lines = text.lines().filter_map(|line| line.strip_prefix("connector_shopper_answers_total{"));
    let refused = lines.filter(|line| !line.contains("status=\"200\""));
    let reason = |line: &str| {
        let (_, rest) = line.split_once("reason=\"")?;
        let (reason, _) = rest.split_once('"')?;
        Some((reason.to_owned(), line.rsplit(' ').next()?.parse().ok()?))
    };
    refused.filter_map(reason).collect()
}

/// The reason for which a request was refused that is made meanwhile, and is the only one.
pub(crate) async fn reason_of<T>(server: &Server, request: impl Future<Output = T>) -> (T, String) {
    let before = refusals(server).await;
    let outcome = request.await;
    let mut after = refusals(server).await;
    after.retain(|reason, count| before.get(reason) != Some(count));
    let reasons: Vec<String> = after.into_keys().collect();
    (outcome, reasons.join(" and "))
}

/// A token is refused where customer contexts are made, for that reason, and nothing of it is told.
pub(crate) async fn assert_token_refused(server: &Server, token: &str, reason: &str, what: &str) {
    let (answer, found) = reason_of(server, context(server, token)).await;
    assert_eq!(found, reason, "{what}: {}", answer.status);
    assert_unauthorized(&answer, what);
}
