//! `check-config`: checks whether `serve` would start with this configuration and directory file, and prints the
//! settings. With `--probe`, it checks a running connector as a gate would call it.

use std::fmt::Write as _;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;

use super::credentials::CredentialArgs;
use super::serve::exit_code;
use super::{ConfigArgs, EXIT_USAGE, fail, print, safe};
use crate::app::{CODES_REFUSED, raise_open_file_limit, read_source};
use crate::config::{Config, Effective, Mode, Override, Sources, effective};
use crate::digest::HashKey;
use crate::directory::Change;
use crate::directory::file::Content;
use crate::simulator::{self, Finding, GateSettings, Verdict};

pub(super) const HELP: &str = "\
Example:
  identity-connector check-config --config connector.toml

Exit codes:
  0   no fault was found
  1   the probe found a fault
  64  bad configuration or usage";

#[derive(Args, Debug)]
pub(super) struct CheckConfigArgs {
    #[command(flatten)]
    config: ConfigArgs,
    #[arg(long, value_name = "URL")]
    #[arg(
        help = "Probe the running connector at this base URL, such as https://connector.example. Sends requests with \
                and without the given credentials. The configuration is checked only if --config or CONNECTOR_CONFIG \
                is also given"
    )]
    probe: Option<String>,
    /// With --probe, scan an unknown key at this store, such as STORE-001 [default: the first store of the directory
    /// file]
    #[arg(long, value_name = "ID", requires = "probe")]
    store: Option<String>,
    #[command(flatten)]
    credentials: CredentialArgs,
}

pub(super) async fn run(args: &CheckConfigArgs, now: DateTime<Utc>) -> ExitCode {
    let sources = args.config.sources();
    let checked = match (&args.probe, &sources.file) {
        (Some(_), None) => Ok(None),
        _ => check(&sources),
    };
    let store = match checked {
        Ok(first) => args.store.clone().or(first),
        Err(exit_code) => return exit_code,
    };
    let Some(url) = &args.probe else { return ExitCode::SUCCESS };
    let mut settings = GateSettings::new(url);
    if let Err(problem) = args.credentials.apply(&mut settings) {
        return fail(EXIT_USAGE, &problem);
    }
    let findings = match simulator::probe(settings, store.as_deref(), now).await {
        Ok(findings) => findings,
        Err(error) => return fail(EXIT_USAGE, &format!("--probe: {error}")),
    };
    let mut text = format!("\n{}\n", safe(url));
    for Finding { check, verdict, result } in &findings {
        let mark = match verdict {
            Verdict::Good => "ok",
            Verdict::Note => "-",
            Verdict::Bad => "BAD",
        };
        let _ = writeln!(text, "  {mark:<4}{check:<24}{}", safe(result));
    }
    print(&text);
    let is_bad = findings.iter().any(|finding| finding.verdict == Verdict::Bad);
    if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Checks the configuration and prints it. Returns the first store of the directory file, if there is one.
fn check(sources: &Sources) -> Result<Option<String>, ExitCode> {
    let settings = Config::load(Mode::Serve, sources).and_then(|config| Ok((config, effective(Mode::Serve, sources)?)));
    let (config, settings) = match settings {
        Ok(settings) => settings,
        Err(error) => return Err(fail(EXIT_USAGE, &error)),
    };
    if let Err(error) = raise_open_file_limit(&config) {
        return Err(fail(EXIT_USAGE, &error));
    }
    let hash_key = match HashKey::random() {
        Ok(hash_key) => hash_key,
        Err(error) => return Err(fail(1, &error)),
    };
    let loaded = match read_source(&config.directory, &hash_key) {
        Ok(loaded) => loaded,
        Err(error) => return Err(fail(exit_code(&error), &error)),
    };
    let content = loaded.as_ref().map(|loaded| loaded.content);
    let mut text = String::new();
    for Effective { name, value, changed } in settings {
        let line = format!("{name} = {value}");
        let _ = match changed {
            Some(Override { origin, default: Some(default) }) => {
                writeln!(text, "{line:<48} # {origin}; default {default}")
            }
            Some(Override { origin, default: None }) => writeln!(text, "{line:<48} # {origin}"),
            None => writeln!(text, "{line}"),
        };
    }
    let _ = writeln!(text, "\nThe configuration is valid. {}", content.map_or_else(no_directory_file, describe));
    if config.scan_key.is_none() && content.is_some_and(|content| content.recognition_tokens > 0) {
        let _ = writeln!(text, "Warning: {CODES_REFUSED}.");
    }
    print(&text);
    let mut changes = loaded.into_iter().flat_map(|loaded| loaded.changes);
    Ok(changes.find_map(|change| match change {
        Change::PutStore(store) => Some(store.id.as_str().to_owned()),
        _ => None,
    }))
}

fn no_directory_file() -> String {
    "No directory file is configured; the directory in the database is not changed.".to_owned()
}

fn describe(content: Content) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let mut text = format!(
        "The directory file has {}, {} and {}.",
        count(content.stores, "store"),
        count(content.identity_keys, "identity key"),
        count(content.recognition_tokens, "recognition token"),
    );
    if content.open_by_default > 0 {
        let (verb, whose) = if content.open_by_default == 1 { ("has", "Its") } else { ("have", "Their") };
        let stores = count(content.open_by_default, "store");
        let _ = write!(
            text,
            "\nWarning: {stores} {verb} the default gate decision open. {whose} gates open when a scan gets a 500."
        );
    }
    text
}
