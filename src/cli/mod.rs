//! The command line: one thin file a subcommand.
//!
//! Output that was asked for goes to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
//! 64 bad usage or configuration; a subcommand with others says so in its help.

mod check_config;
mod credentials;
mod demo;
mod export;
mod gate;
mod healthcheck;
mod import;
mod openapi;
mod reference;
mod scan_key;
mod serve;
mod transfer;

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use secrecy::SecretString;

use crate::clock::Clock;
use crate::config::Sources;

/// The exit code for bad usage and bad configuration (`EX_USAGE` of sysexits).
const EXIT_USAGE: u8 = 64;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CONNECTOR_COMMIT"), ")");

/// The retailer's Identity Connector for Just Walk Out gates.
#[derive(Parser)]
#[command(name = "identity-connector", version = VERSION, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the connector
    Serve(ConfigArgs),
    /// Runs a demo in memory with Amazon's test data, on this machine only, and prints commands to try
    Demo(demo::DemoArgs),
    /// Plays Amazon's gate: scans once and tells whether the gate opens
    #[command(after_help = gate::EXIT_CODES)]
    Gate(gate::GateArgs),
    /// Makes a Scan Key Code: as text, as Base64 and as a QR code
    ScanKey(scan_key::ScanKeyArgs),
    /// Asks a running connector on this machine whether it is ready: exit code 0 if so, 1 if not
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Brings stores, shoppers, keys and tokens from a file into the database
    #[command(after_help = import::EXIT_CODES)]
    Import(import::ImportArgs),
    /// Writes stores, shoppers, keys and tokens of the database to a file; keys and tokens as digests
    Export(export::ExportArgs),
    /// Checks the configuration and the directory file without starting; with --probe, checks a running connector instead
    #[command(after_help = check_config::EXIT_CODES)]
    CheckConfig(check_config::CheckConfigArgs),
    /// Prints every setting with its meaning, range and default, as a configuration file
    DefaultConfig,
    /// Prints the OpenAPI document: what every port answers
    Openapi,
    /// Prints a completion script for a shell
    Completions(reference::CompletionsArgs),
    /// Prints the manual page
    Man(reference::ManArgs),
}

/// Where settings come from.
#[derive(Args, Clone, Debug)]
struct ConfigArgs {
    /// TOML file with settings; the environment (CONNECTOR__SECTION__KEY) overrides it [default: CONNECTOR_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The variable that names the configuration file where `--config` does not.
const CONFIG_VARIABLE: &str = "CONNECTOR_CONFIG";

impl ConfigArgs {
    fn sources(&self) -> Sources {
        let named = || {
            let path = std::env::var_os(CONFIG_VARIABLE)?;
            // White space is trimmed, as from every setting; a path that is not UTF-8 is taken as it is.
            let path = path.to_str().map_or_else(|| PathBuf::from(&path), |text| PathBuf::from(text.trim()));
            (!path.as_os_str().is_empty()).then_some(path)
        };
        Sources {
            file: self.config.clone().or_else(named),
            environment: std::env::vars_os().collect(),
            ..Sources::default()
        }
    }
}

/// Runs the subcommand that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    end_unless(printed);
                    ExitCode::SUCCESS
                }
                _ => ExitCode::from(EXIT_USAGE),
            };
        }
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error),
    };
    let exit_code = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(&args.sources()).await,
            Command::Demo(args) => demo::run(&args).await,
            Command::Gate(args) => gate::run(&args, Clock::System.now()).await,
            Command::ScanKey(args) => scan_key::run(&args, Clock::System.now()),
            Command::Healthcheck(args) => healthcheck::run(&args).await,
            Command::Import(args) => import::run(&args, &Clock::System).await,
            Command::Export(args) => export::run(&args).await,
            Command::CheckConfig(args) => check_config::run(&args, Clock::System.now()).await,
            Command::DefaultConfig => reference::default_config(),
            Command::Openapi => openapi::run(),
            Command::Completions(args) => reference::completions(&args, Cli::command()),
            Command::Man(args) => reference::man(&args, Cli::command()),
        }
    });
    // Whatever still blocks a thread, such as the look-up of a name, does not hold up the end.
    runtime.shutdown_background();
    exit_code
}

/// A secret on the command line. Parsing it never fails, so that clap never repeats it in an error.
fn secret() -> impl TypedValueParser<Value = SecretString> {
    StringValueParser::new().map(SecretString::from)
}

/// A time on the command line.
fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|instant| instant.to_utc())
        .map_err(|_| "not an RFC 3339 time such as 2030-01-31T12:00:00Z".to_owned())
}

/// Prints what went wrong, and returns the exit code.
fn fail(code: u8, error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}

/// Prints what was asked for.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    end_unless(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Ends the process with 1 if the output cannot be written, as on a full disk. A reader that has gone away is no error of ours.
fn end_unless(printed: io::Result<()>) {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
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
