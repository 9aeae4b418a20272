//! `scan-key`: a Scan Key Code as the shopper's app would show it.

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

use super::{ConfigArgs, EXIT_USAGE, fail, instant, print, secret};
use crate::config::load_scan_key;
use crate::domain::scan_key_code::RecognitionToken;

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct ScanKeyArgs {
    #[command(subcommand)]
    command: Option<ScanKeyCommand>,
    /// The recognition token: 32 letters and digits
    #[arg(long, required = true, value_parser = secret(), allow_hyphen_values = true)]
    token: Option<SecretString>,
    /// When the code is made, such as 2030-01-31T12:00:00Z [default: now]
    #[arg(long, value_name = "TIME", value_parser = instant)]
    timestamp: Option<DateTime<Utc>>,
    /// The retailer's own information at the end of the code: letters and digits
    #[arg(long, default_value = "", hide_default_value = true)]
    custom: String,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Subcommand)]
enum ScanKeyCommand {
    /// Prints the regular expression that Amazon's Merchant Portal asks for
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
                let _ = writeln!(io::stderr(), "note: scan_key.customer_prefix is not set; this is the demo's, ACME");
            }
            format
        }
        Ok((None, _)) => return fail(EXIT_USAGE, &"scan_key.customer_prefix is not set: there are no Scan Key Codes"),
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
        // Black on white whatever the terminal's own colours are: readers expect it so.
        for line in qr.render::<Dense1x2>().build().lines() {
            let _ = writeln!(text, "\x1b[38;5;16;48;5;231m{line}\x1b[0m");
        }
    } else {
        // No colours in a file or a pipe: dark is what is not drawn, as on the usual dark screen.
        let qr = qr.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        let _ = writeln!(text, "{qr}");
    }
    Ok(text)
}
