//! What a scan came to, for people and as JSON. What the server says is escaped before a terminal sees it.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::safe;
use crate::gate::{Cause, GateDecision, GateReport, GateScan, Outcome};

/// How many characters of an answer's body a person is shown.
const SHOWN: usize = 160;

pub(super) fn for_people(scan: &GateScan, report: &GateReport, budget: Duration, colour: bool) -> String {
    let paint = |code: &str, text: &str| {
        if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    };
    let channel = scan.channel.as_deref().unwrap_or_default();
    let place = safe(format!("{} {} {channel}", scan.store_id, scan.location).trim_end());
    let mut text = paint("2", &format!("{place}  event {}", scan.event_id));
    let opened = report.cause == Cause::Authorized;
    for (number, attempt) in (1..=report.attempts.len()).zip(&report.attempts) {
        let opens = opened && number == report.attempts.len();
        let took = took(attempt.elapsed);
        let (status, words) = match &attempt.outcome {
            // It may look right and be wrong, or be cut off.
            Outcome::Answered { status: 200, body } if !opens => {
                ("200".to_owned(), format!("not an authorization: {}", shown(body)))
            }
            Outcome::Answered { status, body } => (status.to_string(), shown(body)),
            failed => ("-".to_owned(), no_answer(failed)),
        };
        let _ = write!(text, "\n{number:>3}  {status:<3}  {took:>7}  {words}");
    }
    let decision = match report.decision {
        GateDecision::Open => paint("1;32", "OPEN  "),
        GateDecision::Closed => paint("1;31", "CLOSED"),
    };
    let _ = write!(text, "\n{decision}  {}", why(report, budget));
    if report.attempts.len() > 1 {
        let total = took(report.elapsed);
        let sum = format!("  ({} attempts, {total})", report.attempts.len());
        text.push_str(&paint("2", &sum));
    }
    text.push('\n');
    text
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
            format!("default gate decision: no usable answer, and another attempt would not fit into {budget}")
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
