//! `identity-connector gate`: one scan at a simulated gate, shown to a person or as JSON.
//!
//! Keys, codes, tokens and the API key are secrets here: no message repeats them. What the server
//! says is escaped before a terminal sees it.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::{env, fs, path::PathBuf, process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use clap::builder::{StringValueParser, TypedValueParser};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::domain::scan_key_code::{RecognitionToken, ScanKeyFormat, TimestampUnit};
use crate::gate::{Cause, Gate, GateDecision, GateReport, GateScan, GateSettings, Outcome};

const API_KEY_VARIABLE: &str = "CONNECTOR_API_KEY";
/// How many characters of an answer's body a person is shown.
const SHOWN: usize = 160;

/// Plays Amazon's gate: sends one scan to a connector and says whether the gate opens.
///
/// Exit code: 0 open, 1 closed, 64 bad usage.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group = clap::ArgGroup::new("scanned").required(true).args(["key", "code", "token"]))]
pub(super) struct GateArgs {
    #[arg(long, help = "The connector's base URL, such as http://127.0.0.1:8080")]
    url: String,
    /// A registered identity key, before Base64
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    key: Option<SecretString>,
    /// A Scan Key Code, as text
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    code: Option<SecretString>,
    /// A recognition token, 32 letters and digits: a fresh Scan Key Code is made from it
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// The customer prefix of the code made from --token
    #[arg(long, default_value = "ACME", conflicts_with_all = ["key", "code"])]
    prefix: String,
    /// The unit of the timestamp in the code made from --token
    #[arg(long, value_enum, ignore_case = true, default_value_t = Unit::Seconds)]
    #[arg(conflicts_with_all = ["key", "code"])]
    timestamp_unit: Unit,
    /// The store's id
    #[arg(long, default_value = "STORE-001")]
    store: String,
    /// Where in the store the gate is
    #[arg(long, value_enum, ignore_case = true, default_value_t = Location::Entry)]
    location: Location,
    /// What read the key; none leaves the channel out
    #[arg(long, value_enum, ignore_case = true, default_value_t = Channel::Optical)]
    channel: Channel,
    /// The scan's id, a UUID [default: a random one]
    #[arg(long)]
    event: Option<Uuid>,
    /// When the scan happened, such as 2030-01-31T12:00:00Z [default: now]
    #[arg(long, value_parser = instant)]
    timestamp: Option<DateTime<Utc>>,
    /// How long the gate keeps asking, such as 6s or 500ms
    #[arg(long, value_parser = humantime::parse_duration, default_value = "6s")]
    budget: Duration,
    /// The store's default gate decision, for when no decision comes in time
    #[arg(long, value_enum, ignore_case = true, default_value_t = DefaultGate::Closed)]
    default_gate: DefaultGate,
    #[arg(long, help = "Sent as X-Api-Key [default: the environment's CONNECTOR_API_KEY]")]
    #[arg(value_parser = secret(), allow_hyphen_values = true)]
    api_key: Option<SecretString>,
    /// A file that holds the API key
    #[arg(long, conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Location {
    Entry,
    Exit,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Channel {
    Optical,
    Radio,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DefaultGate {
    Open,
    Closed,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// Scans once and prints what came of it. `now` dates the scan unless `--timestamp` does.
pub(super) async fn run(args: &GateArgs, now: DateTime<Utc>) -> ExitCode {
    let (gate, scan) = match prepare(args, now) {
        Ok(ready) => ready,
        Err(problem) => {
            let _ = writeln!(std::io::stderr(), "error: {}", safe(&problem));
            return ExitCode::from(super::EXIT_USAGE);
        }
    };
    let report = gate.scan(&scan).await;
    let stdout = std::io::stdout();
    let text = if args.json {
        as_json(&scan, &report)
    } else {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = stdout.is_terminal() && !no_color;
        for_people(&scan, &report, args.budget, colour)
    };
    // A reader that has gone away changes nothing about the gate.
    let _ = stdout.lock().write_all(text.as_bytes());
    match report.decision {
        GateDecision::Open => ExitCode::SUCCESS,
        GateDecision::Closed => ExitCode::FAILURE,
    }
}

fn prepare(args: &GateArgs, now: DateTime<Utc>) -> Result<(Gate, GateScan), String> {
    let timestamp = args.timestamp.unwrap_or(now);
    let mut settings = GateSettings::new(&args.url);
    settings.api_key = api_key(args)?;
    settings.budget = args.budget;
    settings.default_decision = match args.default_gate {
        DefaultGate::Open => GateDecision::Open,
        DefaultGate::Closed => GateDecision::Closed,
    };
    let scan = GateScan {
        identity_key: STANDARD.encode(scanned(args, timestamp)?.expose_secret()),
        store_id: args.store.clone(),
        event_id: args.event.unwrap_or_else(Uuid::new_v4),
        timestamp,
        location: match args.location {
            Location::Entry => "ENTRY".to_owned(),
            Location::Exit => "EXIT".to_owned(),
        },
        channel: match args.channel {
            Channel::Optical => Some("OPTICAL".to_owned()),
            Channel::Radio => Some("RADIO".to_owned()),
            Channel::None => None,
        },
    };
    let gate = Gate::new(settings).map_err(|error| error.to_string())?;
    Ok((gate, scan))
}

/// What the reader at the gate sees, before Base64.
fn scanned(args: &GateArgs, at: DateTime<Utc>) -> Result<SecretString, String> {
    let Some(token) = &args.token else {
        // clap sees to it that one of the three is there.
        let given = args.key.as_ref().or(args.code.as_ref()).cloned();
        return given.ok_or_else(|| "give one of --key, --code and --token".to_owned());
    };
    let unit = match args.timestamp_unit {
        Unit::Seconds => TimestampUnit::Seconds,
        Unit::Milliseconds => TimestampUnit::Milliseconds,
    };
    // These errors say what is wrong without repeating it.
    let format = ScanKeyFormat::new(&args.prefix, unit).map_err(|error| format!("--prefix {error}"))?;
    let token = RecognitionToken::parse(token.expose_secret()).map_err(|error| format!("--token: {error}"))?;
    let code = format.write(&token, at, "").map_err(|error| format!("--token: {error}"))?;
    Ok(SecretString::from(code))
}

fn api_key(args: &GateArgs) -> Result<Option<SecretString>, String> {
    let key = if let Some(path) = &args.api_key_file {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("--api-key-file: cannot read {}: {error}", path.display()))?;
        SecretString::from(text.trim())
    } else if let Some(key) = &args.api_key {
        key.clone()
    } else {
        match env::var(API_KEY_VARIABLE) {
            Ok(key) if !key.is_empty() => SecretString::from(key),
            Err(env::VarError::NotUnicode(_)) => {
                return Err(format!("{API_KEY_VARIABLE} is not text"));
            }
            _ => return Ok(None),
        }
    };
    if key.expose_secret().is_empty() {
        return Err("the API key is empty; leave it out to send none".to_owned());
    }
    Ok(Some(key))
}

/// Never fails, so that clap never repeats a secret in an error.
fn secret() -> impl TypedValueParser<Value = SecretString> {
    StringValueParser::new().map(SecretString::from)
}

fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.to_utc())
        .map_err(|_| "not an RFC 3339 time such as 2030-01-31T12:00:00Z".to_owned())
}

fn for_people(scan: &GateScan, report: &GateReport, budget: Duration, colour: bool) -> String {
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
            format!("default gate decision: no usable answer within {budget}")
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

/// Escapes what could steer a terminal or reorder its text: controls, separators, invisible marks.
/// Written as JSON writes them, so that JSON stays JSON.
fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            plain => out.push(plain),
        }
    }
    out
}
