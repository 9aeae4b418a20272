//! The connector under test, as one case sees it from outside.

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

/// Far beyond the 2 s that Amazon waits: a late answer shall be seen as late, not as none.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Connector {
    /// Base URL of the API, without a slash at its end.
    pub(crate) api: String,
    pub(crate) api_key: Option<String>,
    /// The caller to act as, where the connector trusts us to name one.
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

/// A client for these URLs. It uses no proxy of the environment, which would be tested in the connector's place.
pub(crate) fn client<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Client, String> {
    let mut builder = Client::builder().timeout(PATIENCE).redirect(Policy::none()).no_proxy();
    if urls.into_iter().all(|url| url.starts_with("http:")) {
        builder = builder.tls_certs_only([]); // none to load, nor to miss on a machine without any
    }
    builder.build().map_err(|error| describe("HTTP client", &error))
}

impl Connector {
    /// Sends a request body as Amazon does.
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
        let body = response.bytes().await.map_err(|error| describe("the answer broke off", &error))?.to_vec();
        Ok(Received { status, content_type, retry_after, body, took: sent.elapsed() })
    }

    /// How many sessions a scan has opened, whatever has become of them since.
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

/// With its causes: reqwest's own message ends before the one that matters.
fn describe(what: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
