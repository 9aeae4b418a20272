//! `identity-connector gate`: one scan at a simulated gate, shown to a person or as JSON.
//!
//! Keys, codes, tokens and the API key are secrets here: no message repeats them.

mod show;

use std::{process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::credentials::CredentialArgs;
use super::{ConfigArgs, EXIT_USAGE, fail, instant, print, safe, secret};
use crate::config::{load_scan_key, load_signing_keys};
use crate::domain::scan_key_code::{RecognitionToken, ScanKeyFormat, TimestampUnit};
use crate::gate::{Gate, GateDecision, GateScan, GateSettings};
use crate::telemetry::may_colour;
use show::ForPeople;

pub(super) const EXIT_CODES: &str =
    "Exit code: 0 open, 1 closed, 2 no attempt was answered (whatever the default gate decision), 64 bad usage.";
/// The exit code when no attempt was answered.
const NO_ANSWER: u8 = 2;

/// Plays Amazon's gate: sends one scan to a connector and says whether the gate opens.
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
    /// A recognition token, 32 letters and digits: a fresh Scan Key Code is made from it, signed if scan_key.signing_keys are set
    #[arg(long, value_parser = secret(), allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// The customer prefix of the code made from --token [default: scan_key.customer_prefix, else the demo's]
    #[arg(long, conflicts_with_all = ["key", "code"])]
    prefix: Option<String>,
    /// The unit of the timestamp in the code made from --token [default: scan_key.timestamp_unit, or seconds with --prefix]
    #[arg(long, value_enum, ignore_case = true, requires = "prefix")]
    #[arg(conflicts_with_all = ["key", "code"])]
    timestamp_unit: Option<Unit>,
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
    #[arg(long, value_parser = event)]
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
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    config: ConfigArgs,
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

/// Scans once and prints each attempt as it happens, then the decision. `now` dates the scan unless `--timestamp` does.
pub(super) async fn run(args: &GateArgs, now: DateTime<Utc>) -> ExitCode {
    let (gate, scan) = match prepare(args, now) {
        Ok(ready) => ready,
        Err(problem) => return fail(EXIT_USAGE, &problem.lines().map(safe).collect::<Vec<_>>().join("\n")),
    };
    let report = if args.json {
        let report = gate.scan(&scan).await;
        print(&show::as_json(&scan, &report));
        report
    } else {
        let mut people = ForPeople { colour: may_colour(&std::io::stdout()), attempts: 0 };
        print(&people.head(&scan));
        let report = gate.scan_and_tell(&scan, |attempt| print(&people.attempt(attempt))).await;
        print(&people.decision(&report, args.budget));
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
    // These errors say what is wrong without repeating it.
    let sources = args.config.sources();
    let format = match &args.prefix {
        Some(prefix) => {
            let unit = match args.timestamp_unit {
                Some(Unit::Milliseconds) => TimestampUnit::Milliseconds,
                Some(Unit::Seconds) | None => TimestampUnit::Seconds,
            };
            let signing_keys = load_signing_keys(&sources).map_err(|error| error.to_string())?;
            ScanKeyFormat::new(prefix, unit, signing_keys).map_err(|error| format!("--prefix {error}"))?
        }
        None => {
            let (format, _) = load_scan_key(&sources).map_err(|error| error.to_string())?;
            format.ok_or("scan_key.customer_prefix is not set: there are no Scan Key Codes")?
        }
    };
    let token = RecognitionToken::parse(token.expose_secret()).map_err(|error| format!("--token: {error}"))?;
    let code = format.write(&token, at, "").map_err(|error| format!("--token: {error}"))?;
    Ok(SecretString::from(code))
}

fn event(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "not a UUID such as 11111111-2222-3333-4444-555555555555".to_owned())
}
