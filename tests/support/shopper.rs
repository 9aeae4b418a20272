//! A shopper's app: its tokens and requests.

use std::collections::BTreeMap;
use std::fmt::Display;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::carts::CARTS;
use super::checks::{assert_error_form, assert_refused, wait_until};
use super::{Answer, Server, client_without_credentials, secrets};

/// The demo's `X-Auth-Key`.
pub(crate) const AUTH_KEY: &str = "demo-authorization-key";
/// The endpoint for anonymous tokens.
pub(crate) const TOKENS: &str = "/commerceapi/authentication/";
/// The endpoint for customer contexts.
pub(crate) const CONTEXTS: &str = "/commerceapi/authentication/customercontext";

/// The outcome of a request that is not refused.
pub(crate) const ACCEPTED: &str = "accepted";

/// Settings without a request limit.
pub(crate) const UNLIMITED: [(&str, &str); 2] =
    [("commerce.requests_per_second", "1000000"), ("commerce.burst", "1000000")];

/// A shopper with a token and its customer context.
#[derive(Clone, Debug)]
pub(crate) struct Shopper {
    pub(crate) token: String,
    pub(crate) context: String,
    /// The `jti` of the token, if the shopper is anonymous.
    pub(crate) anonymous_id: Option<String>,
    shoppers: String,
}

/// A new anonymous shopper.
pub(crate) async fn anonymous(server: &Server) -> Shopper {
    with_token(server, &token(server, &json!({})).await).await
}

/// An anonymous shopper with this id.
pub(crate) async fn anonymous_with_id(server: &Server, id: &str) -> Shopper {
    with_token(server, &token(server, &json!({ "anonymousId": id })).await).await
}

/// The shopper with this token, which is the connector's or a provider's.
pub(crate) async fn with_token(server: &Server, token: &str) -> Shopper {
    let answer = context(server, token).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    let is_anonymous = answer["isAnonymous"].as_bool().expect("isAnonymous is a boolean");
    let shopper = Shopper {
        token: token.to_owned(),
        context: answer["customerContext"].as_str().expect("the answer has a customerContext").to_owned(),
        anonymous_id: is_anonymous.then(|| claims(token)["jti"].as_str().expect("jti is a string").to_owned()),
        shoppers: server.shoppers.clone(),
    };
    let secrets = [Some(&shopper.token), Some(&shopper.context), shopper.anonymous_id.as_ref()];
    secrets.into_iter().flatten().for_each(|secret| secrets::keep(secret));
    shopper
}

impl Shopper {
    /// Returns the shopper with another connector.
    pub(crate) fn at(self, server: &Server) -> Self {
        Self { shoppers: server.shoppers.clone(), ..self }
    }

    /// Sends a request to a shopper endpoint, with token and customer context.
    pub(crate) async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = client_without_credentials().request(method, format!("{}{path}", self.shoppers));
        let request = request.bearer_auth(&self.token).header("x-customer-context", &self.context);
        let request = match body {
            Some(body) => request.body(body.to_string()),
            None => request,
        };
        Answer::read(request.send().await.unwrap()).await
    }
}

/// An anonymous token.
pub(crate) async fn token(server: &Server, body: &Value) -> String {
    let answer = ask_for_token(server, Some(AUTH_KEY), body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["accessToken"].as_str().expect("the answer has an accessToken").to_owned()
}

/// Asks for an anonymous token with this key and body.
pub(crate) async fn ask_for_token(server: &Server, key: Option<&str>, body: impl Into<reqwest::Body>) -> Answer {
    let request = client_without_credentials().post(format!("{}{TOKENS}", server.shoppers)).body(body);
    let request = key.into_iter().fold(request, |request, key| request.header("x-auth-key", key));
    send(request).await
}

/// Requests a customer context with this token.
pub(crate) async fn context(server: &Server, token: &str) -> Answer {
    send(get(server, CONTEXTS).bearer_auth(token)).await
}

/// A request for the carts, with this token and customer context.
pub(crate) fn get_carts(server: &Server, token: &str, context: impl AsRef<[u8]>) -> RequestBuilder {
    get(server, CARTS).bearer_auth(token).header("x-customer-context", context.as_ref())
}

/// A request without any credentials.
pub(crate) fn get(server: &Server, path: &str) -> RequestBuilder {
    client_without_credentials().get(format!("{}{path}", server.shoppers))
}

pub(crate) async fn send(request: RequestBuilder) -> Answer {
    Answer::read(request.send().await.unwrap()).await
}

/// A part of a token: 0 is the header, 1 the claims.
pub(crate) fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("the token has three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("the part is Base64")).expect("the part is JSON")
}

pub(crate) fn claims(token: &str) -> Value {
    part(token, 1)
}

/// Asserts the 401 of the shopper endpoints, which is the same for every reason.
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

/// Asserts the 503 for a provider whose keys were never fetched.
#[track_caller]
pub(crate) fn assert_unavailable(answer: &Answer) {
    assert_error_form(answer, 503, "no keys were fetched");
    let seconds = answer.headers["retry-after"].to_str().unwrap();
    assert!(seconds.parse::<u64>().is_ok_and(|seconds| seconds >= 1), "Retry-After {seconds}");
}

/// The number of refused requests to the shopper endpoints, by `reason`.
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

/// Asserts the outcomes of requests with credentials: [`ACCEPTED`], or the `reason` of the refusal, which the answer
/// does not contain. A row is what is special about a request, the request, and its outcome.
pub(crate) async fn assert_outcomes<'a>(
    server: &Server,
    rows: impl IntoIterator<Item = (impl Display, RequestBuilder, &'a str)>,
) {
    let (mut wrong, mut before) = (Vec::new(), refusals(server).await);
    for (what, request, expected) in rows {
        let answer = send(request).await;
        let after = refusals(server).await;
        let new = after.iter().filter(|(reason, count)| before.get(*reason) != Some(*count));
        let reason = new.map(|(reason, _)| reason.as_str()).collect::<Vec<_>>().join(" and ");
        match answer.status {
            200 => {}
            401 => assert_unauthorized(&answer, &reason),
            _ => assert_unavailable(&answer),
        }
        let found = if answer.status == 200 { ACCEPTED } else { &reason };
        if found != expected {
            wrong.push(format!("{what}: {found}, not {expected}"));
        }
        before = after;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("; "));
}

/// Asserts the outcomes of requests for a customer context with these tokens.
pub(crate) async fn assert_tokens<'a>(
    server: &Server,
    rows: impl IntoIterator<Item = (impl Display, String, &'a str)>,
) {
    let request = |token| get(server, CONTEXTS).bearer_auth(token);
    assert_outcomes(server, rows.into_iter().map(|(what, token, expected)| (what, request(token), expected))).await;
}

/// Requests a customer context with a token for each value in a table of the form `{ outcome: { member: [values] } }`.
pub(crate) async fn assert_table(server: &Server, table: &Value, token: impl Fn(&str, &Value) -> String) {
    let mut rows = Vec::new();
    for (outcome, members) in table.as_object().unwrap() {
        for (member, values) in members.as_object().unwrap() {
            let values = values.as_array().unwrap().iter();
            rows.extend(values.map(|value| (format!("{member} = {value}"), token(member, value), outcome.as_str())));
        }
    }
    assert_tokens(server, rows).await;
}

/// Sends requests with a token until one is accepted. Before, the provider of the token has no keys.
pub(crate) async fn retry_until_accepted(server: &Server, token: &str) {
    wait_until("the token is accepted", async || {
        let answer = context(server, token).await;
        if answer.status != 200 {
            assert_unavailable(&answer);
        }
        answer.status == 200
    })
    .await;
}
