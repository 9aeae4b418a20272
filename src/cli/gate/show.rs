//! What a scan came to, for people and as JSON. What the server says is escaped before a terminal sees it.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::safe;
use crate::gate::{Attempt, Cause, GateDecision, GateReport, GateScan, Outcome};

/// How many characters of an answer's body a person is shown.
const SHOWN: usize = 160;

/// For a person: what is scanned, each attempt, the decision.
pub(super) struct ForPeople {
    pub(super) colour: bool,
    /// How many attempts were shown.
    pub(super) attempts: usize,
}

impl ForPeople {
    /// The line before the first attempt.
    pub(super) fn head(&self, scan: &GateScan) -> String {
        let channel = scan.channel.as_deref().unwrap_or_default();
        let gate = safe(format!("{} {} {channel}", scan.store_id, scan.location).trim_end());
        format!("{}\n", self.paint("2", &format!("{gate}  event {}", scan.event_id)))
    }

    /// The line of the next attempt.
    pub(super) fn attempt(&mut self, attempt: &Attempt) -> String {
        self.attempts = self.attempts.saturating_add(1);
        let (status, words) = match &attempt.outcome {
            // It may look right and be wrong, or be cut off.
            Outcome::Answered { status: 200, body } if attempt.decision.is_none() => {
                ("200".to_owned(), format!("not an authorization: {}", shown(body)))
            }
            Outcome::Answered { status, body } => (status.to_string(), shown(body)),
            failed => ("-".to_owned(), no_answer(failed)),
        };
        format!("{:>3}  {status:<3}  {:>7}  {words}\n", self.attempts, took(attempt.elapsed))
    }

    /// The last line.
    pub(super) fn decision(&self, report: &GateReport, budget: Duration) -> String {
        let decision = match report.decision {
            GateDecision::Open => self.paint("1;32", "OPEN  "),
            GateDecision::Closed => self.paint("1;31", "CLOSED"),
        };
        let mut text = format!("{decision}  {}", why(report, budget));
        if report.attempts.len() > 1 {
            let sum = format!("  ({} attempts, {})", report.attempts.len(), took(report.elapsed));
            text.push_str(&self.paint("2", &sum));
        }
        text.push('\n');
        text
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A body as it came, on one line.
fn shown(body: &str) -> String {
    let line = cut(body);
    if line.is_empty() { "(empty body)".to_owned() } else { line }
}

fn no_answer(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed(reason) => format!("no answer: {}", safe(reason)),
        Outcome::TimedOut | Outcome::Answered { .. } => "no answer in time".to_owned(),
    }
}

/// The reason for the decision, in words.
fn why(report: &GateReport, budget: Duration) -> String {
    let budget = humantime::format_duration(budget);
    match report.cause {
        Cause::Authorized | Cause::Refused => {
            match report.attempts.last().map(|last| &last.outcome) {
                Some(Outcome::Answered { status, body }) => format!("{status} {}", meaning(body)),
                _ => String::new(), // cannot be: both causes are answers
            }
        }
        Cause::RateLimited => format!("429 was the last answer within {budget}"),
        Cause::DefaultDecision => {
            let is_elsewhere =
                |attempt: &Attempt| matches!(attempt.outcome, Outcome::Answered { status: 404 | 405, .. });
            let none = match report.attempts.iter().any(is_elsewhere) {
                true => "no usable answer. Is this the API's port?",
                false if report.is_answered() => "no usable answer.",
                false => "no answer. Does a connector run at this URL?",
            };
            format!("the store's default gate decision: {none} Another attempt would not fit into {budget}.")
        }
    }
}

/// What a body says: who may enter, or the message of a refusal.
fn meaning(body: &str) -> String {
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let text = |pointer| json.pointer(pointer).and_then(Value::as_str);
    let words = match (text("/visitorDetails/id"), text("/visitorDetails/type")) {
        (Some(id), Some(kind)) => match text("/shopperDeviceId") {
            Some(device) => format!("{kind} {id}, device {device}"),
            None => format!("{kind} {id}"),
        },
        _ => text("/message").unwrap_or("without a message").to_owned(),
    };
    cut(&words)
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
    // Strings and numbers only: it cannot fail to serialize.
    format!("{}\n", safe(&serde_json::to_string(&report).unwrap_or_default()))
}

/// To a tenth of a millisecond, which is fine enough to compare and short enough to read.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

fn took(duration: Duration) -> String {
    match milliseconds(duration) {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1000.0),
    }
}

/// A text on one line, and not a long one.
fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", safe(line.get(..end).unwrap_or_default())),
        None => safe(&line),
    }
}
