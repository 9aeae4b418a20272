//! The probe of `check-config`: checks a running connector before a gate calls it. It checks whether a request without
//! credentials is refused, whether a request with the given credentials is accepted, and whether a whole scan is
//! decided in time.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use crate::cause::root_cause;
use crate::simulator::wire::{Answer, WireRequest};
use crate::simulator::{Gate, GateError, GateScan, GateSettings};

/// The connector's time limit for an answer, half a second less than Amazon's timeout.
const ANSWER_TIME: Duration = Duration::from_millis(1500);

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was checked.
    pub check: &'static str,
    /// Whether the result is good.
    pub verdict: Verdict,
    /// The result as text. It contains text from the server: escape it before printing it.
    pub result: String,
}

/// Whether a result is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// Not checked, or possibly intended.
    Note,
    /// A gate would be refused, or a client without credentials would be accepted.
    Bad,
}

/// Checks the connector at the URL of `settings`, without credentials and with them. If `store` is given, it also sends
/// a scan of an unknown key at that store: the connector denies and records it like any other scan.
///
/// # Errors
/// If the settings are not valid.
pub(crate) async fn probe(
    settings: GateSettings,
    store: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>, GateError> {
    let has_credentials = settings.api_key.is_some() || settings.certificate.is_some();
    let anonymous = Gate::new(GateSettings { api_key: None, certificate: None, ..settings.clone() })?;
    let gate = Gate::new(settings)?;
    let mut findings = vec![without_credentials(&anonymous, has_credentials).await];
    if has_credentials {
        findings.push(with_credentials(&gate).await);
    }
    findings.push(match store {
        Some(store) => whole_scan(&gate, store, now).await,
        None => Finding {
            check: "a whole scan",
            verdict: Verdict::Note,
            result: "not tried: give a store with --store".to_owned(),
        },
    });
    Ok(findings)
}

/// A request without credentials must be refused. With a refused handshake there is no answer, which is fine if the
/// credentials get an answer.
async fn without_credentials(gate: &Gate, has_credentials: bool) -> Finding {
    let (verdict, result) = match post(gate, "{}".to_owned()).await {
        Ok((answer, _)) if matches!(answer.status, 401 | 403) => (Verdict::Good, status_and_body(&answer)),
        Ok((answer, _)) if answer.status == 400 => (
            Verdict::Bad,
            format!("accepted: {}: set server.callers, unless a proxy authenticates callers", status_and_body(&answer)),
        ),
        Ok((answer, _)) => (Verdict::Bad, not_a_connector(&answer)),
        Err(error) => (if has_credentials { Verdict::Note } else { Verdict::Bad }, format!("no answer: {error}")),
    };
    Finding { check: "without credentials", verdict, result }
}

/// With valid credentials, an empty request must get a 400.
async fn with_credentials(gate: &Gate) -> Finding {
    let (verdict, result) = match post(gate, "{}".to_owned()).await {
        Ok((answer, _)) if answer.status == 400 && message(&answer).as_deref() == Some("Invalid request body") => {
            (Verdict::Good, format!("accepted: {}", status_and_body(&answer)))
        }
        Ok((answer, _)) if matches!(answer.status, 401 | 403) => {
            (Verdict::Bad, format!("refused: {}", status_and_body(&answer)))
        }
        Ok((answer, _)) => (Verdict::Bad, not_a_connector(&answer)),
        Err(error) => (Verdict::Bad, format!("no answer: {error}")),
    };
    Finding { check: "with these credentials", verdict, result }
}

/// A scan of an unknown key at a known store must get a 401 in time.
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
    let (verdict, result) = match post(gate, request).await {
        Ok((answer, elapsed))
            if answer.status == 401 && message(&answer).is_some_and(|message| message != "Unauthorized") =>
        {
            let result = format!("decided in {} ms: {}", elapsed.as_millis(), status_and_body(&answer));
            (if elapsed <= ANSWER_TIME { Verdict::Good } else { Verdict::Bad }, result)
        }
        Ok((answer, _)) => (Verdict::Bad, format!("not decided: {}", status_and_body(&answer))),
        Err(error) => (Verdict::Bad, format!("no answer: {error}")),
    };
    Finding { check: "a whole scan", verdict, result }
}

/// Sends a body. Returns the answer and its time, or why there is no answer.
async fn post(gate: &Gate, body: String) -> Result<(Answer, Duration), String> {
    let sent = Instant::now();
    let request = gate.client.post(gate.endpoint.clone()).header("content-type", "application/json").body(body);
    match timeout(gate.settings.attempt_timeout, gate.send(request)).await {
        Ok(Ok(answer)) => Ok((answer, sent.elapsed())),
        Ok(Err(error)) => Err(root_cause(&error)),
        Err(_) => Err(format!("none within {:?}", gate.settings.attempt_timeout)),
    }
}

fn not_a_connector(answer: &Answer) -> String {
    format!("not a connector's answer: {}: is this the API's port?", status_and_body(answer))
}

fn status_and_body(answer: &Answer) -> String {
    format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body))
}

fn message(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    body.get("message")?.as_str().map(str::to_owned)
}
