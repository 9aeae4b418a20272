//! `gate`: one scan at a simulated gate, printed as text or as JSON.
//!
//! Keys, codes, tokens and the API key are secrets: no message repeats them.

mod show;

use std::{process::ExitCode, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::credentials::CredentialArgs;
use super::{ConfigArgs, EXIT_USAGE, fail, parse_time, print, safe, secret};
use crate::config::{load_scan_key, load_signing_keys};
use crate::domain::scan_key_code::{RecognitionToken, ScanKeyFormat, TimestampUnit};
use crate::gate::{Gate, GateDecision, GateScan, GateSettings};
use crate::telemetry::use_colour;
use show::TextReport;

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
    #[arg(long, value_enum, ignore_case = true, requires = "prefix")]
    #[arg(conflicts_with_all = ["key", "code"])]
    timestamp_unit: Option<Unit>,
    /// Scan at the store with this id, such as STORE-002
    #[arg(long, default_value = "STORE-001")]
    store: String,
    /// Scan at this gate of the store, such as exit
    #[arg(long, value_enum, ignore_case = true, default_value_t = Location::Entry)]
    location: Location,
    /// Send this key channel, such as radio; none omits it
    #[arg(long, value_enum, ignore_case = true, default_value_t = Channel::Optical)]
    channel: Channel,
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
    #[arg(long, value_enum, ignore_case = true, default_value_t = DefaultGate::Closed)]
    default_gate: DefaultGate,
    #[command(flatten)]
    credentials: CredentialArgs,
    #[command(flatten)]
    config: ConfigArgs,
    /// Print the result as one JSON object
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

/// Scans once, and prints each attempt as it ends, then the decision. The scan happens at `now` or at `--timestamp`.
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
            let unit = match args.timestamp_unit {
                Some(Unit::Milliseconds) => TimestampUnit::Milliseconds,
                Some(Unit::Seconds) | None => TimestampUnit::Seconds,
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
