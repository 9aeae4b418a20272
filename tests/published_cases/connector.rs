//! The connector under test, seen from outside.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::Received;
use crate::case::RateLimit;

const IDENTITY_KEYS: &str = "/v1/identity/identity-keys";

/// Much longer than the 2 s that Amazon waits, so that a late answer is reported as late, not as missing.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Connector {
    /// The base URL of the API, without a trailing slash.
    pub(crate) api: String,
    pub(crate) api_key: Option<String>,
    /// The caller address to send in `X-Forwarded-For`, if the connector trusts the test as a proxy.
    pub(crate) forwarded_for: Option<IpAddr>,
    pub(crate) management: Option<Management>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) client: Client,
}

#[derive(Clone)]
pub(crate) struct Management {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
}

/// An HTTP client for these URLs. It ignores the environment's proxy settings, so that the test reaches the connector
/// itself.
pub(crate) fn client<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Client, String> {
    let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).no_proxy();
    if urls.into_iter().all(|url| url.starts_with("http:")) {
        builder = builder.tls_certs_only([]); // plain HTTP needs no certificates, which may be missing
    }
    builder.build().map_err(|error| describe("HTTP client", &error))
}

impl Connector {
    /// Sends a request in the way Amazon does.
    pub(crate) async fn post(&self, body: &Value) -> Result<Received, String> {
        let mut request = self.client.post(format!("{}{IDENTITY_KEYS}", self.api)).json(body);
        if let Some(api_key) = &self.api_key {
            request = request.header("X-Api-Key", api_key);
        }
        if let Some(caller) = self.forwarded_for {
            request = request.header("X-Forwarded-For", caller.to_string());
        }
        let sent = Instant::now();
        let response = request.send().await.map_err(|error| describe("no answer", &error))?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, content_type, retry_after) =
            (response.status().as_u16(), header(CONTENT_TYPE), header(RETRY_AFTER));
        let body = response.bytes().await.map_err(|error| describe("incomplete answer", &error))?.to_vec();
        Ok(Received { status, content_type, retry_after, body, took: sent.elapsed() })
    }

    /// The number of sessions that a scan has opened, whether open or closed now.
    pub(crate) async fn count_sessions(&self, auth_event_id: &str) -> Result<usize, String> {
        let management = self.management.as_ref().ok_or("no management URL to count sessions at")?;
        let (mut count, mut cursor) = (0, None);
        loop {
            let page = management.sessions(&self.client, cursor.as_deref()).await?;
            let of_event = |session: &&Session| session.entry.auth_event_id.eq_ignore_ascii_case(auth_event_id);
            count += page.sessions.iter().filter(of_event).count();
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(count);
            }
        }
    }
}

impl Management {
    async fn sessions(&self, client: &Client, cursor: Option<&str>) -> Result<SessionPage, String> {
        let url = format!("{}/admin/v1/sessions?limit=1000", self.url);
        let mut url = Url::parse(&url).map_err(|error| format!("{url}: {error}"))?;
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        let mut request = client.get(url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.map_err(|error| describe("the list of sessions", &error))?;
        let response = response.error_for_status().map_err(|error| describe("the list of sessions", &error))?;
        response.json().await.map_err(|error| describe("the list of sessions", &error))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionPage {
    sessions: Vec<Session>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct Session {
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    auth_event_id: String,
}

/// The error with its causes: reqwest's own message does not contain the last cause, which matters most.
fn describe(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
