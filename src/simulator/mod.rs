//! The gate simulator: Amazon's side of the HTTP interface.
//!
//! A [`Gate`] sends one scan to a connector as Amazon does, retries included, and decides whether the gate opens. It
//! uses none of the connector's types: the two share only the HTTP interface, so a mistake in shared code cannot hide.
//! Amazon publishes no numbers for timeouts and back-off; [`GateSettings::new`] has the numbers of this project.
//!
//! An attempt is *answered* when the complete answer, or the first 64 KiB of its body, arrives within the attempt's
//! time. A timeout or a broken connection is not an answer. When the budget is spent, the last answer counts, so a 429
//! counts even if later attempts time out.

mod probe;
mod wire;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, ClientBuilder, Identity, RequestBuilder, Url, retry};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde::Serialize;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::cause::root_cause;
use crate::clock::Clock;
use crate::outgoing::{client, read_limited};
pub(crate) use crate::simulator::probe::{Finding, Verdict, probe};
pub use crate::simulator::wire::GateScan;
use crate::simulator::wire::{Answer, WireRequest};

const ENDPOINT: &str = "/v1/identity/identity-keys";
const ANSWER_LIMIT: usize = 64 * 1024;
/// A wait is the nominal back-off times a random percentage of this range.
const JITTER_PERCENT: RangeInclusive<u32> = 50..=150;

/// The connector that a gate calls, its credentials and its time limits.
#[derive(Debug, Clone)]
pub struct GateSettings {
    /// The connector's base URL, `http` or `https`; `/v1/identity/identity-keys` is appended unless the URL already
    /// ends in it.
    pub url: String,
    /// Sent as `X-Api-Key`.
    pub api_key: Option<SecretString>,
    /// Sent as `X-Forwarded-For`, as a proxy in front of the connector would.
    pub forwarded_for: Option<IpAddr>,
    /// CA certificates in PEM with which the connector's certificate is verified, instead of the system's.
    pub authorities: Option<Vec<u8>>,
    /// The client certificate, followed by its private key, in PEM.
    pub certificate: Option<SecretSlice<u8>>,
    /// The maximum time of one attempt, the body of the answer included. Must be greater than zero.
    pub attempt_timeout: Duration,
    /// The maximum time of a scan, all attempts and waits included. Must be greater than zero.
    pub budget: Duration,
    /// The nominal wait before the first retry; it doubles with each retry. Must be greater than zero.
    pub first_backoff: Duration,
    /// The store's default gate decision, which applies when the budget is spent without a decision.
    pub default_decision: GateDecision,
}

impl GateSettings {
    /// 2 s for an attempt, 6 s for the scan, back-off from 100 ms, default decision closed, no credentials.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            forwarded_for: None,
            authorities: None,
            certificate: None,
            attempt_timeout: Duration::from_secs(2),
            budget: Duration::from_secs(6),
            first_backoff: Duration::from_millis(100),
            default_decision: GateDecision::Closed,
        }
    }
}

/// Invalid settings. No message contains the API key, or the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("the URL {0}; give the connector's base URL, such as http://127.0.0.1:8080")]
    Url(String),
    #[error("the API key cannot be sent as a header; use printable ASCII characters only")]
    ApiKey,
    #[error("the CA file contains no certificates in PEM")]
    Authorities,
    #[error(
        "the client certificate cannot be used: it and its private key must be in PEM, and the key must not be encrypted"
    )]
    Certificate,
    /// Certificates are given for a URL without TLS.
    #[error("certificate options require an https:// URL; change the URL or remove the certificate options")]
    NeedsTls,
    #[error("the {0} is zero; give a duration such as 2s or 100ms")]
    Zero(&'static str),
    /// The HTTP client cannot be created, for example because there are no root certificates.
    #[error("the HTTP client cannot start: {0}")]
    Client(String),
}

/// A gate that sends its scans to one connector. Cloning is cheap; scans may run at the same time.
#[derive(Debug, Clone)]
pub struct Gate {
    client: Client,
    endpoint: Url,
    settings: GateSettings,
}

/// The result of a scan.
#[derive(Debug, Clone)]
pub struct GateReport {
    /// The decision.
    pub decision: GateDecision,
    /// The cause of the decision.
    pub cause: Cause,
    /// Every attempt, in order; at least one.
    pub attempts: Vec<Attempt>,
    /// From the scan to the decision, waits included.
    pub elapsed: Duration,
}

impl GateReport {
    /// Whether any attempt was answered.
    pub fn is_answered(&self) -> bool {
        self.attempts.iter().any(|attempt| matches!(attempt.outcome, Outcome::Answered { .. }))
    }
}

/// The decision of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum GateDecision {
    /// The gate opens.
    Open,
    /// The gate stays closed.
    Closed,
}

/// The cause of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// The connector answered 200 and named the visitor: open.
    Authorized,
    /// The connector answered 400 or 401: closed.
    Refused,
    /// The budget is spent, and the last answer was 429: closed.
    RateLimited,
    /// The budget is spent, and the last answer was another one, or there was none: the store's default gate decision
    /// applies.
    DefaultDecision,
}

/// One request and its outcome.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The `requestId`, new for every attempt.
    pub request_id: Uuid,
    pub outcome: Outcome,
    /// The decision on this outcome; `None` if the gate retries while its budget lasts.
    pub decision: Option<GateDecision>,
    /// From sending the request to its outcome.
    pub elapsed: Duration,
}

/// The outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The request was answered.
    Answered {
        /// The HTTP status.
        status: u16,
        /// The first 64 KiB of the body; invalid UTF-8 is replaced. It is text from the server: escape it before
        /// printing it.
        body: String,
    },
    /// There was no answer in time.
    TimedOut,
    /// There was no answer, for this reason.
    Failed(String),
}

impl Gate {
    /// Checks the settings. Does not connect yet.
    ///
    /// # Errors
    /// If the URL, the API key, a certificate or a duration is not valid. The message says what is valid.
    pub fn new(settings: GateSettings) -> Result<Self, GateError> {
        for (name, duration) in [
            ("attempt timeout", settings.attempt_timeout),
            ("budget", settings.budget),
            ("first back-off", settings.first_backoff),
        ] {
            if duration.is_zero() {
                return Err(GateError::Zero(name));
            }
        }
        let endpoint = endpoint(&settings.url)?;
        if endpoint.scheme() == "http" && (settings.authorities.is_some() || settings.certificate.is_some()) {
            return Err(GateError::NeedsTls);
        }
        let client = client(endpoint.as_str())
            .default_headers(headers(&settings)?)
            .no_proxy() // the environment may name a proxy, which would get the scan
            .retry(retry::never()); // a retry of the client would send a requestId twice
        let client = with_tls(client, &settings)?.build().map_err(|error| GateError::Client(root_cause(&error)))?;
        Ok(Self { client, endpoint, settings })
    }

    /// Sends a scan and decides, within the budget. The gate is closed meanwhile.
    pub async fn scan(&self, scan: &GateScan) -> GateReport {
        self.scan_with_progress(scan, |_| ()).await
    }

    /// Like [`scan`](Self::scan), and calls `on_attempt` after each attempt.
    pub async fn scan_with_progress(&self, scan: &GateScan, mut on_attempt: impl FnMut(&Attempt)) -> GateReport {
        let started = Instant::now();
        let mut attempts = Vec::new();
        let mut last_status = None;
        let mut backoff = self.settings.first_backoff;
        let (decision, cause) = loop {
            let limit = self.settings.attempt_timeout.min(self.remaining(started));
            let request_id = Uuid::new_v4();
            let sent = Instant::now();
            let request = self.client.post(self.endpoint.clone()).json(&WireRequest::new(scan, request_id));
            let result = timeout(limit, self.send(request)).await;
            let elapsed = sent.elapsed();
            let (outcome, verdict, retry_after) = match result {
                Ok(Ok(answer)) => {
                    last_status = Some(answer.status);
                    (answer.outcome(), answer.verdict(), answer.retry_after)
                }
                Ok(Err(error)) => (Outcome::Failed(root_cause(&error)), None, None),
                Err(_) => (Outcome::TimedOut, None, None),
            };
            let attempt = Attempt { request_id, outcome, decision: verdict.map(|(decision, _)| decision), elapsed };
            on_attempt(&attempt);
            attempts.push(attempt);
            if let Some(verdict) = verdict {
                break verdict;
            }
            let wait = wait(backoff, rand::random_range(JITTER_PERCENT), retry_after);
            let fits = wait < self.remaining(started);
            if fits {
                sleep(wait).await;
            }
            if !fits || self.remaining(started).is_zero() {
                break decision_without_answer(last_status, self.settings.default_decision);
            }
            backoff = backoff.saturating_mul(2);
        };
        GateReport { decision, cause, attempts, elapsed: started.elapsed() }
    }

    fn remaining(&self, started: Instant) -> Duration {
        self.settings.budget.saturating_sub(started.elapsed())
    }

    async fn send(&self, request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| wire::retry_after(value, Clock::System.now()));
        let (body, is_complete) = read_limited(response, ANSWER_LIMIT).await?;
        Ok(Answer { status, retry_after, body, is_complete })
    }
}

/// The wait before the next attempt: the back-off with its jitter, or a longer `Retry-After`.
fn wait(backoff: Duration, jitter_percent: u32, retry_after: Option<Duration>) -> Duration {
    let percent = backoff.checked_div(100).unwrap_or_default();
    let jittered = percent.saturating_mul(jitter_percent);
    jittered.max(retry_after.unwrap_or_default())
}

/// The decision when the budget is spent. `last_status` is the status of the last answer, if there was one.
fn decision_without_answer(last_status: Option<u16>, default: GateDecision) -> (GateDecision, Cause) {
    match last_status {
        Some(429) => (GateDecision::Closed, Cause::RateLimited),
        _ => (default, Cause::DefaultDecision),
    }
}

/// The URL of the endpoint.
fn endpoint(url: &str) -> Result<Url, GateError> {
    let invalid = |problem: &str| Err(GateError::Url(problem.to_owned()));
    let mut url = match Url::parse(url) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Err(error) if url.contains("://") => return invalid(&format!("cannot be read ({error})")),
        _ => return invalid("does not begin with http:// or https://"),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return invalid("contains a user name or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return invalid("contains a query or fragment (the part after ? or #)");
    }
    let path = url.path().trim_end_matches('/');
    let base = path.strip_suffix(ENDPOINT).unwrap_or(path);
    let path = format!("{base}{ENDPOINT}");
    url.set_path(&path);
    Ok(url)
}

/// Adds the CA certificates and the client certificate to the HTTP client.
fn with_tls(mut client: ClientBuilder, settings: &GateSettings) -> Result<ClientBuilder, GateError> {
    if let Some(pem) = &settings.authorities {
        let authorities = Certificate::from_pem_bundle(pem).ok().filter(|authorities| !authorities.is_empty());
        client = client.tls_certs_only(authorities.ok_or(GateError::Authorities)?);
    }
    if let Some(pem) = &settings.certificate {
        // The library's error may quote the key.
        client = client.identity(Identity::from_pem(pem.expose_secret()).map_err(|_| GateError::Certificate)?);
    }
    Ok(client)
}

/// The headers of every request: the API key and the forwarded address.
fn headers(settings: &GateSettings) -> Result<HeaderMap, GateError> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &settings.api_key {
        let mut value = HeaderValue::from_str(key.expose_secret()).map_err(|_| GateError::ApiKey)?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static("x-api-key"), value);
    }
    if let Some(address) = settings.forwarded_for
        && let Ok(value) = HeaderValue::from_str(&address.to_string())
    {
        headers.insert(HeaderName::from_static("x-forwarded-for"), value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_the_longer_of_back_off_and_retry_after() {
        let backoff = Duration::from_millis(400);
        assert_eq!(wait(backoff, 50, None), Duration::from_millis(200));
        assert_eq!(wait(backoff, 150, Some(Duration::ZERO)), Duration::from_millis(600));
        assert_eq!(wait(backoff, 150, Some(Duration::from_secs(1))), Duration::from_secs(1));
        assert_eq!(wait(Duration::MAX, 150, None), Duration::MAX);
    }

    #[test]
    fn a_spent_budget_closes_after_429_and_uses_the_default_after_anything_else() {
        let default = (GateDecision::Open, Cause::DefaultDecision);
        let closed = (GateDecision::Closed, Cause::RateLimited);
        assert_eq!(decision_without_answer(Some(429), GateDecision::Open), closed);
        assert_eq!(decision_without_answer(Some(500), GateDecision::Open), default);
        assert_eq!(decision_without_answer(None, GateDecision::Open), default);
    }

    #[test]
    fn the_url_may_be_a_base_or_the_endpoint_itself() {
        for (given, expected) in [
            ("http://h:1", "http://h:1/v1/identity/identity-keys"),
            ("https://h/", "https://h/v1/identity/identity-keys"),
            ("http://h/a/", "http://h/a/v1/identity/identity-keys"),
            ("http://h/v1/identity/identity-keys", "http://h/v1/identity/identity-keys"),
        ] {
            assert_eq!(endpoint(given).unwrap().as_str(), expected);
        }
        for given in ["", "h", "localhost:8080", "ftp://h", "http://u:pw@h", "http://h?a=b"] {
            let message = endpoint(given).unwrap_err().to_string();
            assert!(message.contains("http://127.0.0.1:8080"), "{message}");
            assert!(!message.contains("pw"), "{message}");
        }
    }
}
