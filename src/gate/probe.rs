//! What a gate would find at a connector, tried out before one asks: whether strangers are kept out, whether these credentials get in,
//! and whether a whole scan is decided in time.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::answer::Answer;
use super::scan::WireRequest;
use super::{Gate, GateError, GateScan, GateSettings};
use crate::cause::innermost;

/// How long an answer may take: what the connector promises, half a second before Amazon gives up.
const PROMISED: Duration = Duration::from_millis(1500);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was tried.
    pub what: &'static str,
    /// What that means.
    pub verdict: Verdict,
    /// What came of it, in words. The server's among them: escape them before a terminal sees them.
    pub words: String,
}

/// What a finding means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It could not be tried, or may be meant.
    Note,
    /// A gate would not get what it needs, or somebody else would.
    Bad,
}

/// Tries out the connector at the URL of `settings` as a stranger, and with their credentials; with a scan at `store`, if one is named, of
/// a key that is nobody's: it is decided and recorded as any other, and opens nothing.
///
/// # Errors
/// Settings that cannot work.
pub async fn probe(settings: GateSettings, store: Option<&str>, now: DateTime<Utc>) -> Result<Vec<Finding>, GateError> {
    let has_credentials = settings.api_key.is_some() || settings.certificate.is_some();
    let stranger = Gate::new(GateSettings { api_key: None, certificate: None, ..settings.clone() })?;
    let known = Gate::new(settings)?;
    let mut findings = vec![as_a_stranger(&stranger, has_credentials).await];
    if has_credentials {
        findings.push(with_credentials(&known).await);
    }
    findings.push(match store {
        Some(store) => whole_scan(&known, store, now).await,
        None => Finding {
            what: "a whole scan",
            verdict: Verdict::Note,
            words: "not tried: name a store with --store".to_owned(),
        },
    });
    Ok(findings)
}

/// A caller without credentials is refused. A failed handshake counts as that, if the credentials get an answer.
async fn as_a_stranger(gate: &Gate, has_credentials: bool) -> Finding {
    let (verdict, words) = match ask(gate, "{}".to_owned()).await {
        Ok((answer, _)) if matches!(answer.status, 401 | 403) => (Verdict::Good, said(&answer)),
        Ok((answer, _)) if answer.status == 400 => (
            Verdict::Bad,
            format!("accepted: {}: set server.callers, unless a proxy authenticates callers", said(&answer)),
        ),
        Ok((answer, _)) => {
            (Verdict::Bad, format!("not a connector's answer: {}: is this the API's port?", said(&answer)))
        }
        Err(words) => (if has_credentials { Verdict::Note } else { Verdict::Bad }, format!("no answer: {words}")),
    };
    Finding { what: "without credentials", verdict, words }
}

/// Whoever has them is let in, and told that an empty request is none.
async fn with_credentials(gate: &Gate) -> Finding {
    let (verdict, words) = match ask(gate, "{}".to_owned()).await {
        Ok((answer, _)) if answer.status == 400 && message(&answer).as_deref() == Some("Invalid request body") => {
            (Verdict::Good, format!("accepted: {}", said(&answer)))
        }
        Ok((answer, _)) if matches!(answer.status, 401 | 403) => (Verdict::Bad, format!("refused: {}", said(&answer))),
        Ok((answer, _)) => {
            (Verdict::Bad, format!("not a connector's answer: {}: is this the API's port?", said(&answer)))
        }
        Err(words) => (Verdict::Bad, format!("no answer: {words}")),
    };
    Finding { what: "with these credentials", verdict, words }
}

/// A key that nobody has, at a store that is there, is decided: 401, in time.
async fn whole_scan(gate: &Gate, store: &str, now: DateTime<Utc>) -> Finding {
    let scan = GateScan {
        identity_key: STANDARD.encode(format!("probe-{}", Uuid::new_v4())),
        store_id: store.to_owned(),
        event_id: Uuid::new_v4(),
        timestamp: now,
        location: "ENTRY".to_owned(),
        channel: None,
    };
    let request = serde_json::to_string(&WireRequest::new(&scan, Uuid::new_v4())).unwrap_or_default();
    let (verdict, words) = match ask(gate, request).await {
        Ok((answer, took)) if answer.status == 401 && message(&answer).is_some_and(|said| said != "Unauthorized") => {
            let words = format!("decided in {} ms: {}", took.as_millis(), said(&answer));
            (if took <= PROMISED { Verdict::Good } else { Verdict::Bad }, words)
        }
        Ok((answer, _)) => (Verdict::Bad, format!("not decided: {}", said(&answer))),
        Err(words) => (Verdict::Bad, format!("no answer: {words}")),
    };
    Finding { what: "a whole scan", verdict, words }
}

/// The answer to a body, and how long it took; or why there is none.
async fn ask(gate: &Gate, body: String) -> Result<(Answer, Duration), String> {
    let asked = Instant::now();
    let request = gate.client.post(gate.endpoint.clone()).header("content-type", "application/json").body(body);
    match timeout(gate.settings.attempt_timeout, gate.send(request)).await {
        Ok(Ok(answer)) => Ok((answer, asked.elapsed())),
        Ok(Err(error)) => Err(innermost(&error)),
        Err(_) => Err(format!("none within {:?}", gate.settings.attempt_timeout)),
    }
}

fn said(answer: &Answer) -> String {
    format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
}

fn message(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body.get("message")?.as_str().map(str::to_owned)
}
