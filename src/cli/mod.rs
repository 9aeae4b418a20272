//! The command line: one thin file for each command; `import` and `export` share one.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 64 bad usage or
//! configuration; a command with other exit codes lists them in its help.
//!
//! Help texts have one form: each command and option starts with a verb in the imperative, an option with a value
//! shows an example of it, and each command ends with an example.

mod check_config;
mod credentials;
mod demo;
mod gate;
mod healthcheck;
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
#[command(after_help = "Example:\n  identity-connector demo")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the connector
    #[command(after_help = serve::HELP)]
    Serve(ConfigArgs),
    /// Run a demo in memory with Amazon's test data, on this machine only, and print commands to try
    #[command(after_help = demo::HELP)]
    Demo(demo::DemoArgs),
    /// Play Amazon's gate: scan once and print whether the gate opens
    #[command(after_help = gate::HELP)]
    Gate(Box<gate::GateArgs>),
    /// Create a Scan Key Code and print it as text, as Base64 and as a QR code
    #[command(after_help = scan_key::HELP)]
    ScanKey(scan_key::ScanKeyArgs),
    /// Check whether a running connector is ready
    #[command(after_help = healthcheck::HELP)]
    Healthcheck(healthcheck::HealthcheckArgs),
    /// Import stores, shoppers, keys and tokens from a file into the database
    #[command(after_help = transfer::IMPORT_HELP)]
    Import(transfer::ImportArgs),
    /// Export stores, shoppers, keys and tokens from the database to a file, keys and tokens as digests
    #[command(after_help = transfer::EXPORT_HELP)]
    Export(transfer::ExportArgs),
    /// Check the configuration and the directory file without starting; with --probe, check a running connector instead
    #[command(after_help = check_config::HELP)]
    CheckConfig(check_config::CheckConfigArgs),
    /// Print every setting with its meaning, range and default, as a configuration file
    #[command(after_help = "Example:\n  identity-connector default-config > connector.toml")]
    DefaultConfig,
    /// Print the OpenAPI document of every port
    #[command(after_help = "Example:\n  identity-connector openapi > openapi.json")]
    Openapi,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  identity-connector completions fish | source")]
    Completions(reference::CompletionsArgs),
    /// Print the manual page, or write the pages of all commands
    #[command(after_help = "Example:\n  identity-connector man --to /usr/local/share/man/man1")]
    Man(reference::ManArgs),
}

#[derive(Args, Clone, Debug)]
struct ConfigArgs {
    /// Read settings from this TOML file, such as connector.toml; environment variables (CONNECTOR__SECTION__KEY)
    /// override it [default: the file that CONNECTOR_CONFIG names]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The environment variable that names the configuration file if `--config` is not given.
const CONFIG_VARIABLE: &str = "CONNECTOR_CONFIG";

impl ConfigArgs {
    fn sources(&self) -> Sources {
        let from_environment = || {
            let path = std::env::var_os(CONFIG_VARIABLE)?;
            // White space is trimmed, as in every setting; a path that is not UTF-8 is used unchanged.
            let path = path.to_str().map_or_else(|| PathBuf::from(&path), |text| PathBuf::from(text.trim()));
            (!path.as_os_str().is_empty()).then_some(path)
        };
        Sources {
            file: self.config.clone().or_else(from_environment),
            environment: std::env::vars_os().collect(),
            ..Sources::default()
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let printed = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    exit_on_write_error(printed);
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
            Command::Import(args) => transfer::run_import(&args, &Clock::System).await.unwrap_or_else(|code| code),
            Command::Export(args) => transfer::run_export(&args).await.unwrap_or_else(|code| code),
            Command::CheckConfig(args) => check_config::run(&args, Clock::System.now()).await,
            Command::DefaultConfig => reference::default_config(),
            Command::Openapi => reference::openapi(),
            Command::Completions(args) => reference::completions(&args, Cli::command()),
            Command::Man(args) => reference::man(&args, Cli::command()),
        }
    });
    // A thread that is still blocked, for example by a DNS look-up, must not delay the end.
    runtime.shutdown_background();
    exit_code
}

/// Parses a secret. It never fails, so that no error message of clap repeats the secret.
fn secret() -> impl TypedValueParser<Value = SecretString> {
    StringValueParser::new().map(SecretString::from)
}

/// Parses a time.
fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
    DateTime::parse_from_rfc3339(text)
        .map(|time| time.to_utc())
        .map_err(|_| "not an RFC 3339 time such as 2030-01-31T12:00:00Z".to_owned())
}

/// Prints the error and returns the exit code.
fn fail(code: u8, error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}

/// Prints a result to standard output.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    exit_on_write_error(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
}

/// Exits with 1 if the output cannot be written, for example on a full disk. A closed pipe is not an error.
fn exit_on_write_error(printed: io::Result<()>) {
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "error: standard output: {error}");
            std::process::exit(1);
        }
        _ => {}
    }
}

/// Escapes characters that can control a terminal or reorder its text: controls, separators, invisible marks. The
/// escapes are those of JSON, so that JSON stays valid.
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
