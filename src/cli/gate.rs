//! `gate`: one scan at a simulated gate, printed as text or as JSON.
//!
//! Keys, codes, tokens and the API key are secrets: no message repeats them. Text from the server is escaped, so that
//! it cannot control the terminal.

use std::{process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::credentials::CredentialArgs;
use super::{ConfigArgs, EXIT_USAGE, fail, parse_time, print, safe, secret};
use crate::config::{load_scan_key, load_signing_keys};
use crate::domain::scan_key_code::{RecognitionToken, ScanKeyFormat, TimestampUnit};
use crate::observe::logs::use_colour;
use crate::simulator::{Attempt, Cause, Gate, GateDecision, GateReport, GateScan, GateSettings, Outcome};

pub(super) const HELP: &str = "\
Example:
  identity-connector gate --url http://127.0.0.1:8080 --key badge-4711

Exit codes:
  0   the gate opens
  1   the gate stays closed
  2   no attempt was answered, whatever the default gate decision
  64  bad usage or configuration";
/// The exit code when no attempt was answered.
const NO_ANSWER: u8 = 2;
/// The maximum number of characters of a body that is printed as text.
const MAX_BODY: usize = 160;

#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("scanned").required(true).args(["key", "code", "token"]))]
pub(super) struct GateArgs {
    #[arg(long, help = "Send the scan to the connector at this base URL, such as http://127.0.0.1:8080")]
    url: String,
    /// Scan this registered identity key, as text and not in Base64, such as badge-4711
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    key: Option<SecretString>,
    /// Scan this Scan Key Code, as text, such as JWOACME4f5c1a7e9b3d2086c7e1f0a5d4b396821900000000
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    code: Option<SecretString>,
    /// Scan a new Scan Key Code with this recognition token of 32 letters and digits, such as
    /// 4f5c1a7e9b3d2086c7e1f0a5d4b39682; the code is signed if scan_key.signing_keys is set
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// With --token, use this customer prefix, such as ACME [default: scan_key.customer_prefix, or the demo's]
    #[arg(long, conflicts_with_all = ["key", "code"])]
    prefix: Option<String>,
    /// With --token and --prefix, use this unit in the code's timestamp, such as milliseconds [default: seconds]
    #[arg(long, value_parser = ["seconds", "milliseconds"], ignore_case = true, requires = "prefix")]
    #[arg(conflicts_with_all = ["key", "code"])]
    timestamp_unit: Option<String>,
    /// Scan at the store with this id, such as STORE-002
    #[arg(long, default_value = "STORE-001")]
    store: String,
    /// Scan at this gate of the store, such as exit
    #[arg(long, value_parser = ["entry", "exit"], ignore_case = true, default_value = "entry")]
    location: String,
    /// Send this key channel, such as radio; none omits it
    #[arg(long, value_parser = ["optical", "radio", "none"], ignore_case = true, default_value = "optical")]
    channel: String,
    /// Send this authEvent.id, such as 11111111-2222-3333-4444-555555555555 [default: a random UUID]
    #[arg(long, value_parser = event)]
    event: Option<Uuid>,
    /// Send this time of the scan, such as 2030-01-31T12:00:00Z [default: now]
    #[arg(long, value_parser = parse_time)]
    timestamp: Option<DateTime<Utc>>,
    /// Stop retrying after this time, such as 10s or 500ms
    #[arg(long, value_parser = humantime::parse_duration, default_value = "6s")]
    budget: Duration,
    /// Use this default gate decision of the store if no decision comes in time, such as open
    #[arg(long, value_parser = ["open", "closed"], ignore_case = true, default_value = "closed")]
    default_gate: String,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Scans once, and prints each attempt as it ends, then the decision. The scan happens at `now` or at `--timestamp`.
pub(super) async fn run(args: &GateArgs, now: DateTime<Utc>) -> ExitCode {
    let (gate, scan) = match prepare(args, now) {
        Ok(ready) => ready,
        Err(problem) => return fail(EXIT_USAGE, &problem.lines().map(safe).collect::<Vec<_>>().join("\n")),
    };
    let report = if args.json {
        let report = gate.scan(&scan).await;
        print(&as_json(&scan, &report));
        report
    } else {
        let mut text = TextReport { colour: use_colour(&std::io::stdout()), attempts: 0 };
        print(&text.head(&scan));
        let report = gate.scan_with_progress(&scan, |attempt| print(&text.attempt(attempt))).await;
        print(&text.decision(&report, args.budget));
        report
    };
    match report.decision {
        _ if !report.is_answered() => ExitCode::from(NO_ANSWER),
        GateDecision::Open => ExitCode::SUCCESS,
        GateDecision::Closed => ExitCode::FAILURE,
    }
}

fn prepare(args: &GateArgs, now: DateTime<Utc>) -> Result<(Gate, GateScan), String> {
    let timestamp = args.timestamp.unwrap_or(now);
    let mut settings = GateSettings::new(&args.url);
    args.credentials.apply(&mut settings)?;
    settings.budget = args.budget;
    if args.default_gate.eq_ignore_ascii_case("open") {
        settings.default_decision = GateDecision::Open;
    }
    let channel = args.channel.to_ascii_uppercase();
    let scan = GateScan {
        identity_key: STANDARD.encode(scanned(args, timestamp)?.expose_secret()),
        store_id: args.store.clone(),
        event_id: args.event.unwrap_or_else(Uuid::new_v4),
        timestamp,
        location: args.location.to_ascii_uppercase(),
        channel: (channel != "NONE").then_some(channel),
    };
    let gate = Gate::new(settings).map_err(|error| error.to_string())?;
    Ok((gate, scan))
}

/// The identity key as text, not in Base64.
fn scanned(args: &GateArgs, at: DateTime<Utc>) -> Result<SecretString, String> {
    let Some(token) = &args.token else {
        // clap makes sure that one of the three is given.
        let given = args.key.as_ref().or(args.code.as_ref()).cloned();
        return given.ok_or_else(|| "give one of --key, --code and --token".to_owned());
    };
    // These errors do not repeat the token.
    let sources = args.config.sources();
    let format = match &args.prefix {
        Some(prefix) => {
            let unit = match &args.timestamp_unit {
                Some(unit) if unit.eq_ignore_ascii_case("milliseconds") => TimestampUnit::Milliseconds,
                _ => TimestampUnit::Seconds,
            };
            let signing_keys = load_signing_keys(&sources).map_err(|error| error.to_string())?;
            ScanKeyFormat::new(prefix, unit, signing_keys).map_err(|error| format!("--prefix {error}"))?
        }
        None => {
            let (format, _) = load_scan_key(&sources).map_err(|error| error.to_string())?;
            format.ok_or("scan_key.customer_prefix is not set, so Scan Key Codes are disabled")?
        }
    };
    let token = RecognitionToken::parse(token.expose_secret()).map_err(|error| format!("--token: {error}"))?;
    let code = format.write(&token, at, "").map_err(|error| format!("--token: {error}"))?;
    Ok(SecretString::from(code))
}

fn event(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "not a UUID such as 11111111-2222-3333-4444-555555555555".to_owned())
}

/// The report as text: the scan, each attempt, the decision.
struct TextReport {
    colour: bool,
    /// The number of attempts that were printed.
    attempts: usize,
}

impl TextReport {
    /// The line before the first attempt.
    fn head(&self, scan: &GateScan) -> String {
        let channel = scan.channel.as_deref().unwrap_or_default();
        let gate = safe(format!("{} {} {channel}", scan.store_id, scan.location).trim_end());
        format!("{}\n", self.paint("2", &format!("{gate}  event {}", scan.event_id)))
    }

    /// The line of the next attempt.
    fn attempt(&mut self, attempt: &Attempt) -> String {
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
    fn decision(&self, report: &GateReport, budget: Duration) -> String {
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
    decision: GateDecision,
    cause: Cause,
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

fn as_json(scan: &GateScan, report: &GateReport) -> String {
    let attempts = report.attempts.iter().map(|attempt| {
        let (status, body, error) = match &attempt.outcome {
            Outcome::Answered { status, body } => (Some(*status), Some(body.as_str()), None),
            failed => (None, None, Some(no_answer(failed))),
        };
        let (request_id, elapsed_ms) = (attempt.request_id, milliseconds(attempt.elapsed));
        JsonAttempt { request_id, status, body, error, elapsed_ms }
    });
    let report = JsonReport {
        decision: report.decision,
        cause: report.cause,
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
