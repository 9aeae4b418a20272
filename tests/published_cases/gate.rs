//! Cases with a simulated gate as the connector's client: the gate's answers, decision and report are checked.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use identity_connector::testing::simulator::{Cause, Gate, GateDecision, GateReport, GateScan, GateSettings, Outcome};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::answer::Answer;
use crate::connector::Connector;
use crate::failing_proxy::FailingProxy;

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GateStep {
    /// The request without `requestId`, which the gate makes for each attempt.
    pub(crate) scan: Value,
    gate: Setup,
    pub(crate) report: Report,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Setup {
    default_decision: Decision,
    /// Absent: the gate's default.
    budget_milliseconds: Option<u64>,
    /// A proxy fails this many attempts; later ones reach the connector.
    failed_attempts: Option<usize>,
    /// The proxy's status: 500 if absent, or 429.
    failed_with: Option<u16>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Report {
    decision: Decision,
    cause: ExpectedCause,
    /// The expected answer to each attempt, in order.
    answers: Option<Vec<Answer>>,
    /// The expected answer to every attempt, however many there are.
    every_answer: Option<Answer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Decision {
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ExpectedCause {
    Authorized,
    Refused,
    RateLimited,
    DefaultDecision,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Scan {
    identity_key: String,
    store_id: String,
    auth_event: AuthEvent,
    key_channel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthEvent {
    id: Uuid,
    timestamp: DateTime<Utc>,
    location: String,
}

impl GateStep {
    pub(crate) async fn run(&self, connector: &Connector) -> Result<(), String> {
        let scan: Scan = serde_json::from_value(self.scan.clone()).map_err(|error| format!("scan: {error}"))?;
        let scan = GateScan {
            identity_key: scan.identity_key,
            store_id: scan.store_id,
            event_id: scan.auth_event.id,
            timestamp: scan.auth_event.timestamp,
            location: scan.auth_event.location,
            channel: scan.key_channel,
        };
        let Some(failures) = self.gate.failed_attempts else {
            return self.report.compare(&self.gate.scan(&connector.api, connector, &scan).await?);
        };
        let proxy = FailingProxy::start(connector, failures, self.gate.failed_with.unwrap_or(500)).await?;
        let report = self.gate.scan(&proxy.url, connector, &scan).await?;
        self.report.compare(&report)?;
        are_retries_of(&scan, &report, &proxy.seen())
    }
}

impl Setup {
    async fn scan(&self, url: &str, connector: &Connector, scan: &GateScan) -> Result<GateReport, String> {
        let mut settings = GateSettings::new(url);
        settings.api_key = connector.api_key.clone().map(Into::into);
        settings.forwarded_for = connector.forwarded_for;
        settings.default_decision = match self.default_decision {
            Decision::Open => GateDecision::Open,
            Decision::Closed => GateDecision::Closed,
        };
        if let Some(budget) = self.budget_milliseconds {
            settings.budget = Duration::from_millis(budget);
        }
        let gate = Gate::new(settings).map_err(|error| format!("gate: {error}"))?;
        Ok(gate.scan(scan).await)
    }
}

impl Report {
    pub(crate) fn answers_mut(&mut self) -> impl Iterator<Item = &mut Answer> {
        self.answers.iter_mut().flatten().chain(&mut self.every_answer)
    }

    fn compare(&self, report: &GateReport) -> Result<(), String> {
        let decision = match report.decision {
            GateDecision::Open => Decision::Open,
            GateDecision::Closed => Decision::Closed,
        };
        let cause = match report.cause {
            Cause::Authorized => ExpectedCause::Authorized,
            Cause::Refused => ExpectedCause::Refused,
            Cause::RateLimited => ExpectedCause::RateLimited,
            Cause::DefaultDecision => ExpectedCause::DefaultDecision,
        };
        let difference = match (self.compare_attempts(report), (decision, cause) == (self.decision, self.cause)) {
            (Ok(()), true) => return Ok(()),
            (Err(difference), _) => difference,
            (Ok(()), false) => format!("the gate should be {:?}, {:?}", self.decision, self.cause),
        };
        let attempts: Vec<_> = report.attempts.iter().map(|attempt| describe(&attempt.outcome)).collect();
        Err(format!("{difference}\n  the gate is {decision:?}, {cause:?}, after\n    {}", attempts.join("\n    ")))
    }

    fn compare_attempts(&self, report: &GateReport) -> Result<(), String> {
        let mut outcomes: Vec<_> = report.attempts.iter().map(|attempt| &attempt.outcome).collect();
        if let Some(expected) = &self.answers {
            if outcomes.len() != expected.len() {
                return Err(format!("{} attempts, expected {}", outcomes.len(), expected.len()));
            }
            for (expected, outcome) in expected.iter().zip(&outcomes) {
                compare_outcome(expected, outcome)?;
            }
        }
        if let Some(expected) = &self.every_answer {
            // The gate's last attempt may be cut short by the end of its budget.
            if outcomes.len() > 1 && matches!(outcomes.last(), Some(Outcome::TimedOut)) {
                outcomes.pop();
            }
            for outcome in outcomes {
                compare_outcome(expected, outcome)?;
            }
        }
        Ok(())
    }
}

fn compare_outcome(expected: &Answer, outcome: &Outcome) -> Result<(), String> {
    match outcome {
        Outcome::Answered { status, body } => expected.compare_status_and_body(*status, body.as_bytes()),
        _ => Err("an attempt without an answer".to_owned()),
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered { status, body } => format!("{status} {body}"),
        Outcome::TimedOut => "timed out".to_owned(),
        Outcome::Failed(cause) => format!("failed: {cause}"),
    }
}

/// Amazon retries with the same `authEvent.id` and a new `requestId`, and so must the gate.
fn are_retries_of(scan: &GateScan, report: &GateReport, seen: &[Value]) -> Result<(), String> {
    let text = |body: &Value, pointer| body.pointer(pointer).and_then(Value::as_str).map(str::to_lowercase);
    let sent: Vec<_> = seen.iter().map(|body| text(body, "/requestId")).collect();
    let reported: Vec<_> = report.attempts.iter().map(|attempt| Some(attempt.request_id.to_string())).collect();
    if sent != reported || sent.iter().collect::<HashSet<_>>().len() != sent.len() {
        return Err(format!("request ids sent: {sent:?}; reported: {reported:?}; all must differ"));
    }
    let event_ids: Vec<_> = seen.iter().map(|body| text(body, "/authEvent/id")).collect();
    if event_ids.iter().any(|id| id.as_deref() != Some(scan.event_id.to_string().as_str())) {
        return Err(format!("authEvent.id was not {} in every attempt: {event_ids:?}", scan.event_id));
    }
    Ok(())
}
