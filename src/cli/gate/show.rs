//! The result of a scan, as text and as JSON. Text from the server is escaped, so that it cannot control the terminal.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::safe;
use crate::gate::{Attempt, Cause, GateDecision, GateReport, GateScan, Outcome};

/// The maximum number of characters of a body that is printed as text.
const MAX_BODY: usize = 160;

/// The report as text: the scan, each attempt, the decision.
pub(super) struct TextReport {
    pub(super) colour: bool,
    /// The number of attempts that were printed.
    pub(super) attempts: usize,
}

impl TextReport {
    /// The line before the first attempt.
    pub(super) fn head(&self, scan: &GateScan) -> String {
        let channel = scan.channel.as_deref().unwrap_or_default();
        let gate = safe(format!("{} {} {channel}", scan.store_id, scan.location).trim_end());
        format!("{}\n", self.paint("2", &format!("{gate}  event {}", scan.event_id)))
    }

    /// The line of the next attempt.
    pub(super) fn attempt(&mut self, attempt: &Attempt) -> String {
        self.attempts = self.attempts.saturating_add(1);
        let (status, text) = match &attempt.outcome {
            // The body has no visitor, or is not complete.
            Outcome::Answered { status: 200, body } if attempt.decision.is_none() => {
                ("200".to_owned(), format!("not an authorization: {}", body_text(body)))
            }
            Outcome::Answered { status, body } => (status.to_string(), body_text(body)),
            failed => ("-".to_owned(), no_answer(failed)),
        };
        format!("{:>3}  {status:<3}  {:>7}  {text}\n", self.attempts, format_elapsed(attempt.elapsed))
    }

    /// The last line.
    pub(super) fn decision(&self, report: &GateReport, budget: Duration) -> String {
        let decision = match report.decision {
            GateDecision::Open => self.paint("1;32", "OPEN  "),
            GateDecision::Closed => self.paint("1;31", "CLOSED"),
        };
        let mut text = format!("{decision}  {}", reason(report, budget));
        if report.attempts.len() > 1 {
            let sum = format!("  ({} attempts, {})", report.attempts.len(), format_elapsed(report.elapsed));
            text.push_str(&self.paint("2", &sum));
        }
        text.push('\n');
        text
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A body on one line.
fn body_text(body: &str) -> String {
    let line = one_line(body);
    if line.is_empty() { "(empty body)".to_owned() } else { line }
}

fn no_answer(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(reason) => format!("no answer: {}", safe(reason)),
        Outcome::TimedOut | Outcome::Answered { .. } => "no answer in time".to_owned(),
    }
}

/// The reason for the decision, as text.
fn reason(report: &GateReport, budget: Duration) -> String {
    let budget = humantime::format_duration(budget);
    match report.cause {
        Cause::Authorized | Cause::Refused => {
            match report.attempts.last().map(|last| &last.outcome) {
                Some(Outcome::Answered { status, body }) => format!("{status} {}", meaning(body)),
                _ => String::new(), // impossible: both causes need an answer
            }
        }
        Cause::RateLimited => format!("429 was the last answer within {budget}"),
        Cause::DefaultDecision => {
            let is_wrong_path =
                |attempt: &Attempt| matches!(attempt.outcome, Outcome::Answered { status: 404 | 405, .. });
            let none = match report.attempts.iter().any(is_wrong_path) {
                true => "no usable answer. Is this the API's port?",
                false if report.is_answered() => "no usable answer.",
                false => "no answer. Does a connector run at this URL?",
            };
            format!("the store's default gate decision: {none} Another attempt would not fit into {budget}.")
        }
    }
}

/// The visitor of an authorization, or the message of a refusal.
fn meaning(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |pointer| json.pointer(pointer).and_then(Value::as_str);
    let line = match (text("/visitorDetails/id"), text("/visitorDetails/type")) {
        (Some(id), Some(kind)) => match text("/shopperDeviceId") {
            Some(device) => format!("{kind} {id}, device {device}"),
            None => format!("{kind} {id}"),
        },
        _ => text("/message").unwrap_or("without a message").to_owned(),
    };
    one_line(&line)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonReport<'a> {
    decision: &'static str,
    cause: &'static str,
    event_id: Uuid,
    elapsed_ms: f64,
    attempts: Vec<JsonAttempt<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonAttempt<'a> {
    request_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    elapsed_ms: f64,
}

pub(super) fn as_json(scan: &GateScan, report: &GateReport) -> String {
    let attempts = report.attempts.iter().map(|attempt| {
        let (status, body, error) = match &attempt.outcome {
            Outcome::Answered { status, body } => (Some(*status), Some(body.as_str()), None),
            failed => (None, None, Some(no_answer(failed))),
        };
        let (request_id, elapsed_ms) = (attempt.request_id, milliseconds(attempt.elapsed));
        JsonAttempt { request_id, status, body, error, elapsed_ms }
    });
    let report = JsonReport {
        decision: match report.decision {
            GateDecision::Open => "open",
            GateDecision::Closed => "closed",
        },
        cause: match report.cause {
            Cause::Authorized => "authorized",
            Cause::Refused => "refused",
            Cause::RateLimited => "rateLimited",
            Cause::DefaultDecision => "defaultDecision",
        },
        event_id: scan.event_id,
        elapsed_ms: milliseconds(report.elapsed),
        attempts: attempts.collect(),
    };
    // Serialization cannot fail: there are only strings and numbers.
    format!("{}\n", safe(&serde_json::to_string(&report).unwrap_or_default()))
}

/// Rounded to a tenth of a millisecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

fn format_elapsed(duration: Duration) -> String {
    match milliseconds(duration) {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

/// The first [`MAX_BODY`] characters of a text, on one line.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_BODY) {
        Some((end, _)) => format!("{}…", safe(line.get(..end).unwrap_or_default())),
        None => safe(&line),
    }
}
