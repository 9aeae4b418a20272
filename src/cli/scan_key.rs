//! `scan-key`: prints a Scan Key Code as a shopper's app would show it.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use qrcode::render::unicode::Dense1x2;
use qrcode::types::QrError;
use qrcode::{EcLevel, QrCode};
use secrecy::{ExposeSecret as _, SecretString};

use super::{ConfigArgs, EXIT_USAGE, fail, parse_time, print, secret};
use crate::config::load_scan_key;
use crate::domain::scan_key_code::RecognitionToken;

pub(super) const HELP: &str = "\
Example:
  identity-connector scan-key --token 4f5c1a7e9b3d2086c7e1f0a5d4b39682";

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ScanKeyArgs {
    #[command(subcommand)]
    command: Option<ScanKeyCommand>,
    /// Create the code with this recognition token of 32 letters and digits, such as 4f5c1a7e9b3d2086c7e1f0a5d4b39682
    #[arg(long, required = true, value_parser = secret(), allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// Write this time into the code, such as 2030-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    timestamp: Option<DateTime<Utc>>,
    /// Append this information of the retailer, letters and digits, such as APP2
    #[arg(long, default_value = "", hide_default_value = true)]
    custom: String,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum ScanKeyCommand {
    /// Print the regular expression that matches all codes, for Amazon's Merchant Portal
    #[command(after_help = "Example:\n  identity-connector scan-key pattern --config connector.toml")]
    Pattern(ConfigArgs),
}

pub(super) fn run(args: &ScanKeyArgs, now: DateTime<Utc>) -> ExitCode {
    let config = match &args.command {
        Some(ScanKeyCommand::Pattern(config)) => config,
        None => &args.config,
    };
    let format = match load_scan_key(&config.sources()) {
        Ok((Some(format), is_demos)) => {
            if is_demos {
                let _ =
                    writeln!(io::stderr(), "note: scan_key.customer_prefix is not set; using the demo's prefix, ACME");
            }
            format
        }
        Ok((None, _)) => {
            return fail(EXIT_USAGE, &"scan_key.customer_prefix is not set, so Scan Key Codes are disabled");
        }
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    if args.command.is_some() {
        print(&format!("{}\n", format.pattern()));
        return ExitCode::SUCCESS;
    }
    let token = args.token.as_ref().map_or("", |token| token.expose_secret());
    let code = RecognitionToken::parse(token)
        .map_err(|error| format!("--token: {error}"))
        .and_then(|token| {
            format.write(&token, args.timestamp.unwrap_or(now), &args.custom).map_err(|error| error.to_string())
        })
        .and_then(|code| show(&code).map_err(|error| error.to_string()));
    match code {
        Ok(shown) => {
            print(&shown);
            ExitCode::SUCCESS
        }
        Err(error) => fail(EXIT_USAGE, &error),
    }
}

fn show(code: &str) -> Result<String, QrError> {
    let qr = QrCode::with_error_correction_level(code, EcLevel::M)?;
    let mut text = format!("code    {code}\nbase64  {}\n\n", BASE64_STANDARD.encode(code));
    if io::stdout().is_terminal() {
        // Black on white, independent of the colours of the terminal: QR readers need a dark code on a light
        // background.
        for line in qr.render::<Dense1x2>().build().lines() {
            let _ = writeln!(text, "\x1b[38;5;16;48;5;231m{line}\x1b[0m");
        }
    } else {
        // Without colours, in a file or a pipe: dark modules are left blank, for a dark screen.
        let qr = qr.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        let _ = writeln!(text, "{qr}");
    }
    Ok(text)
}
