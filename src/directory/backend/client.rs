//! The client of the identity backend: its settings, a look-up request, and the answer, as documented in
//! `docs/identity-backend.md`.
//!
//! An answer is checked as strictly as a directory file, with the same rules and member names. An error never repeats a
//! value of the answer, which may contain the key.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, Identity, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::LookupRequest;
use crate::cause::root_cause;
use crate::directory::model::{self, COLUMNS, Cell, Problem, ShopperRow, Word};
use crate::directory::{Kind, Registration};
use crate::domain::scan::KeyChannel;
use crate::domain::visitor::Holder;
use crate::outgoing::{client, is_plain_loopback, read_limited};

/// How long an idle connection is kept: less than most servers keep theirs, so that the connector rarely uses one that
/// the server closes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the client reads the body of an answer that it does not need, so that the connection can be used again.
const DRAIN_FOR: Duration = Duration::from_millis(50);
/// The maximum length of an answer, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
const NOT_JSON: &str = "is not a single JSON object";

/// The URL, the HTTP client and the limits. [`Settings::new`] checks them: the connector does not start with invalid
/// ones.
#[derive(Clone)]
pub struct Settings {
    pub(super) url: Url,
    client: Client,
    pub(super) limits: Limits,
}

/// Limits for look-up requests and for the cache.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest wait for an answer, including its body.
    pub timeout: Duration,
    /// How long a known key is cached; zero turns the cache off.
    pub cache_for: Duration,
    /// The maximum number of concurrent requests.
    pub max_in_flight: usize,
}

/// The credentials of the connector, and the certificate authorities that it trusts, in PEM.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// A bearer token.
    pub token: Option<SecretString>,
    /// The certificate authorities that may sign the backend's certificate; `None` is those of the system.
    pub authorities: Option<String>,
    /// The client certificate with its chain, and its private key.
    pub certificate: Option<(String, SecretString)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// The token cannot be sent in a header.
    Token,
    /// The authorities are not certificates in PEM.
    Authorities,
    /// The client certificate or its key is invalid, or they do not match.
    Certificate,
    /// The HTTP client could not be built, for this reason.
    Client(String),
}

impl Settings {
    /// Checks the settings and builds the HTTP client.
    pub fn new(url: Url, credentials: &Credentials, limits: Limits) -> Result<Self, SettingsError> {
        let mut client = client(url.as_str())
            // A proxy variable of the environment must not redirect look-up requests, which contain keys.
            .no_proxy()
            // Shorter than the time-out of a request, so that a failed connection is not taken for a slow answer.
            .connect_timeout(limits.timeout.checked_div(2).unwrap_or(limits.timeout))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(limits.max_in_flight)
            .default_headers(headers(credentials)?);
        if let Some(authorities) = &credentials.authorities {
            let authorities = Certificate::from_pem_bundle(authorities.as_bytes()).unwrap_or_default();
            if authorities.is_empty() {
                return Err(SettingsError::Authorities);
            }
            client = client.tls_certs_only(authorities);
        }
        if let Some((certificate, key)) = &credentials.certificate {
            let pem = format!("{certificate}\n{}", key.expose_secret());
            client = client.identity(Identity::from_pem(pem.as_bytes()).map_err(|_| SettingsError::Certificate)?);
        }
        let client = client.build().map_err(|error| match credentials {
            Credentials { certificate: Some(_), .. } => SettingsError::Certificate,
            Credentials { authorities: Some(_), .. } => SettingsError::Authorities,
            _ => SettingsError::Client(root_cause(&error)),
        })?;
        Ok(Self { url, client, limits })
    }
}

/// Parses the URL of the identity backend.
pub fn parse_url(text: &str) -> Result<Url, &'static str> {
    let form = "must be an https URL, or an http URL on loopback";
    let url = Url::parse(text).map_err(|_| form)?;
    if url.scheme() != "https" && !is_plain_loopback(&url) {
        return Err(form);
    }
    let has_more = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
    if has_more || url.fragment().is_some() {
        return Err("must have no user, password, query or fragment, as it appears in logs");
    }
    Ok(url)
}

fn headers(credentials: &Credentials) -> Result<HeaderMap, SettingsError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = &credentials.token {
        let bearer = format!("Bearer {}", token.expose_secret());
        let mut bearer = HeaderValue::try_from(bearer).map_err(|_| SettingsError::Token)?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(headers)
}

/// Leaves out the client, which contains the credentials.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.url.as_str())
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Known(Registration),
    /// The key is not known: 404 or 410.
    Unknown,
    /// The request was refused with this 4xx status, perhaps because of the connector's credentials.
    Refused(u16),
    /// The answer does not conform to the contract.
    Malformed(String),
    /// The backend has too many requests: 429.
    TooManyRequests,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// The connection failed. No key can cause this.
    Unreachable(String),
    /// The backend is reachable, but did not answer or answered 5xx. The key may be the cause.
    Failed(String),
}

/// Sends the request and reads the answer. A look-up has no effect, so the request is sent a second time if the
/// connection ends without an answer: a server may close an idle connection just when it is used again.
pub(super) async fn ask(settings: &Settings, request: &LookupRequest<'_>) -> Result<Answer, NoAnswer> {
    let body = question(request);
    let response = match send(settings, body.clone()).await {
        Err(NoAnswer::Failed(_)) => send(settings, body).await?,
        sent => sent?,
    };
    match response.status().as_u16() {
        200 => {
            let read = read_body(response).await?.and_then(|body| read_answer(request.kind, &body));
            Ok(read.map_or_else(Answer::Malformed, Answer::Known))
        }
        status @ 500.. => {
            drain(response).await;
            Err(NoAnswer::Failed(format!("answered {status}")))
        }
        status => {
            drain(response).await;
            Ok(match status {
                404 | 410 => Answer::Unknown,
                429 => Answer::TooManyRequests,
                400..500 => Answer::Refused(status),
                _ => Answer::Malformed(format!("answered {status}")),
            })
        }
    }
}

async fn send(settings: &Settings, body: Vec<u8>) -> Result<Response, NoAnswer> {
    let request = settings.client.post(settings.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
    request.send().await.map_err(|error| {
        let cause = root_cause(&error);
        if error.is_connect() { NoAnswer::Unreachable(cause) } else { NoAnswer::Failed(cause) }
    })
}

/// The body, unless it is longer than [`MAX_ANSWER_BYTES`].
async fn read_body(response: Response) -> Result<Result<Vec<u8>, String>, NoAnswer> {
    let read = read_limited(response, MAX_ANSWER_BYTES).await;
    let (body, is_complete) = read.map_err(|error| NoAnswer::Failed(root_cause(&error)))?;
    Ok(if is_complete { Ok(body) } else { Err(format!("is longer than {} KiB", MAX_ANSWER_BYTES.div_euclid(1024))) })
}

async fn drain(response: Response) {
    drop(timeout(DRAIN_FOR, read_body(response)).await); // an error here does not matter
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestBody<'a> {
    kind: &'static str,
    value: &'a str,
    channel: Option<&'static str>,
    store_id: &'a str,
}

fn question(request: &LookupRequest<'_>) -> Vec<u8> {
    let body = RequestBody {
        kind: request.kind.as_str(),
        value: request.value,
        channel: request.context.channel.map(KeyChannel::as_str),
        store_id: request.context.store.as_str(),
    };
    serde_json::to_vec(&body).unwrap_or_default() // cannot fail: there are only texts
}

/// The body of a 200 answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnswerBody {
    shopper: Option<ShopperRow>,
    device: Option<String>,
    channel: Option<Word<KeyChannel>>,
    #[serde(default)]
    revoked: bool,
}

/// Reads the body of a 200 answer. The error says why it is invalid.
fn read_answer(kind: Kind, body: &[u8]) -> Result<Registration, String> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(NOT_JSON.to_owned()); // serde also accepts an array for a struct
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let found: AnswerBody = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid_answer(&error))?;
    json.end().map_err(|_| NOT_JSON)?;
    let first_problem = |problems: Vec<Problem>| problems.first().map(Problem::to_string).unwrap_or_default();
    if kind == Kind::RecognitionToken && found.channel.is_some() {
        return Err("channel: must be absent: a recognition token is valid on any channel".to_owned());
    }
    let device = found.device.as_deref().map(model::device).transpose().map_err(first_problem)?;
    let profile = found.shopper.as_ref().map(model::shopper).transpose();
    let profile = profile
        .map_err(|problems| first_problem(problems.into_iter().map(|problem| problem.within("shopper")).collect()))?;
    match profile {
        Some(profile) if !profile.devices.is_empty() => {
            Err("shopper.devices: must be absent or empty: give the key's device as `device`".to_owned())
        }
        _ if found.revoked => Ok(Registration::Revoked),
        Some(profile) => {
            let holder = Holder { shopper: profile.shopper, device };
            Ok(Registration::Active { holder, channel: found.channel.map(|word| word.0) })
        }
        None => Err("shopper: is missing: only a revoked key or token may have no shopper".to_owned()),
    }
}

fn invalid_answer(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    if error.inner().classify() != serde_json::error::Category::Data {
        return NOT_JSON.to_owned();
    }
    let path = error.path().to_string();
    let known_names: Vec<&str> = path.split('.').take_while(|segment| is_member(segment)).collect();
    let member = if known_names.is_empty() { "the object".to_owned() } else { known_names.join(".") };
    format!("{member}: wrong type, invalid value, or unknown member")
}

/// Whether an answer may have a member of this name. An error repeats no other name.
fn is_member(name: &str) -> bool {
    let is_of_row = |&(column, cell): &(&str, Cell)| match cell {
        Cell::Within(object, its) => object == name || its == name,
        _ => column == name,
    };
    name == "." || COLUMNS.iter().any(is_of_row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kind: Kind, text: &str) -> String {
        match read_answer(kind, text.as_bytes()) {
            Ok(registration) => format!("{registration:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn an_error_has_the_path_of_a_wrong_member_and_never_its_value() {
        let (not_json, wrong) = ("is not a single JSON object", "wrong type, invalid value, or unknown member");
        for text in [
            "",
            "s3cret",
            r#"{"shopper": {"id": "a", "type": "SHOPPER"}} {}"#,
            r#"{"shopper": {"id": "a", "type": "SHOPPER""#,
            "\u{feff}{}",
            "[]",
            "[null, null, null, true]",
            "null",
            r#""s3cret""#,
        ] {
            assert_eq!(outcome(Kind::IdentityKey, text), not_json, "{text}");
        }
        for (text, path, message) in [
            (r#"{"s3cret": 1, "revoked": true}"#, "the object", wrong),
            (r#"{"revoked": true, "revoked": true}"#, "the object", wrong),
            (r#"{"revoked": "s3cret"}"#, "revoked", wrong),
            (r#"{"revoked": null}"#, "revoked", wrong),
            ("{}", "shopper", "is missing"),
            (r#"{"shopper": {"s3cret": 1}}"#, "shopper", wrong),
            (r#"{"shopper": {"id": "a", "type": "s3cret"}}"#, "shopper.type", wrong),
            (r#"{"shopper": {"id": 7, "type": "SHOPPER"}}"#, "shopper.id", wrong),
            (r#"{"shopper": {"id": "", "type": "SHOPPER"}}"#, "shopper.id", "is empty"),
            (r#"{"shopper": {"id": "s3cret\u0000", "type": "SHOPPER"}}"#, "shopper.id", "must not contain U+0000"),
            (r#"{"shopper": {"type": "SHOPPER"}}"#, "shopper.id", "is empty"),
        ] {
            let outcome = outcome(Kind::IdentityKey, text);
            assert!(outcome.starts_with(&format!("{path}: {message}")) && !outcome.contains("s3cret"), "{outcome}");
        }
        for (rest, path, message) in [
            (r#""account": "s3cret"}"#, "shopper.account", wrong),
            (r#""paymentMethod": {}}"#, "shopper.paymentMethod", wrong),
            (r#""paymentMethod": {"lastMonth": "s3cret"}}"#, "shopper.paymentMethod.lastMonth", "must be a month"),
            (r#""devices": ["s3cret"]}"#, "shopper.devices", "must be absent"),
            (r#""devices": []}, "channel": "s3cret""#, "channel", wrong),
            (r#""devices": []}, "device": """#, "device", "is empty"),
        ] {
            let text = format!(r#"{{"shopper": {{"id": "a", "type": "SHOPPER", {rest}}}"#);
            let outcome = outcome(Kind::IdentityKey, &text);
            assert!(outcome.starts_with(&format!("{path}: {message}")) && !outcome.contains("s3cret"), "{outcome}");
        }
    }

    #[test]
    fn an_answer_is_malformed_if_any_member_is() {
        let with = |pointer: &str, value: serde_json::Value| {
            let mut answer = serde_json::json!({ "shopper": { "id": "v1", "type": "SHOPPER" } });
            let (parent, member) = pointer.rsplit_once('/').expect("a pointer");
            answer.pointer_mut(parent).expect("an object")[member] = value;
            answer.to_string()
        };
        let valid = with("/device", "d".repeat(255).into());
        assert!(read_answer(Kind::IdentityKey, valid.as_bytes()).is_ok(), "{valid}");
        let whole = [
            "[".repeat(10_000),
            "{".to_owned(),
            format!("{valid}{valid}"),
            format!("\u{feff}{valid}"),
            r#"{"shopper": {"id": "\ud800", "type": "SHOPPER"}}"#.to_owned(),
            r#"{"shopper": {"id": "a", "id": "b", "type": "SHOPPER"}}"#.to_owned(),
            r#"{"visitor": {"id": "v1", "type": "SHOPPER"}}"#.to_owned(),
        ];
        let ids = ["", "v\0", &"v".repeat(256)].map(serde_json::Value::from);
        let methods = serde_json::json!([
            {}, "2029-06", { "lastMonth": "2029-13" }, { "lastMonth": "06/29" }, { "lastMonth": "2029-06", "id": "" },
            { "lastMonth": "2029-06", "id": "p".repeat(256) }, { "lastMonth": "2029-06", "number": "4111" },
        ]);
        let members = [
            ("/shopper", serde_json::json!([null, "v1"])),
            ("/shopper/id", serde_json::json!([1, null, ids[0], ids[1], ids[2]])),
            ("/shopper/type", serde_json::json!(["shopper", "MANAGER", null])),
            ("/shopper/account", serde_json::json!(["frozen", true])),
            ("/shopper/flagged", serde_json::json!([true])),
            ("/shopper/devices", serde_json::json!([["d1"]])),
            ("/shopper/paymentMethod", methods),
            ("/device", serde_json::json!([["d"], ids[0], ids[1], ids[2]])),
            ("/channel", serde_json::json!(["NFC", "radio"])),
            ("/revoked", serde_json::json!(["false", 0])),
            ("/reason", serde_json::json!(["why not"])),
        ];
        let members = members.into_iter().flat_map(|(pointer, values)| {
            values.as_array().expect("values").iter().map(|value| with(pointer, value.clone())).collect::<Vec<_>>()
        });
        let accepted =
            whole.into_iter().chain(members).filter(|text| read_answer(Kind::IdentityKey, text.as_bytes()).is_ok());
        assert_eq!(accepted.collect::<Vec<_>>(), Vec::<String>::new());
    }

    #[test]
    fn an_answer_about_a_token_must_not_have_a_channel() {
        let text = r#"{"shopper": {"id": "a", "type": "SHOPPER"}, "channel": "RADIO"}"#;
        assert!(read_answer(Kind::IdentityKey, text.as_bytes()).is_ok());
        assert!(outcome(Kind::RecognitionToken, text).starts_with("channel: "));
    }

    #[test]
    fn a_revoked_key_may_have_a_shopper_or_none() {
        for text in [r#"{"revoked": true}"#, r#"{"revoked": true, "shopper": {"id": "a", "type": "ASSOCIATE"}}"#] {
            assert_eq!(read_answer(Kind::IdentityKey, text.as_bytes()), Ok(Registration::Revoked), "{text}");
        }
    }
}
