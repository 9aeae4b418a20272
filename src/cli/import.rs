//! `import`: imports a file into the database.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::transfer::{Bar, FormatArg, Interrupt, count, fail_to_open, format, location, open, per_second};
use super::{ConfigArgs, EXIT_USAGE, fail, print};
use crate::clock::Clock;
use crate::digest::HashKey;
use crate::directory::Directory;
use crate::storage::StorageError;
use crate::transfer::{Counts, Ended, Import, Report, TransferError};

pub(super) const HELP: &str = "\
Example:
  identity-connector import members.csv --config connector.toml

Exit codes:
  0   done
  1   not done: bad rows, a database error, or Ctrl-C
  64  bad usage, configuration or file format";

#[derive(Args, Debug)]
pub(super) struct ImportArgs {
    /// Import this file, such as members.csv: JSON lines (.jsonl, .ndjson) or CSV (.csv) as `export` writes them, or a
    /// directory file (.json)
    file: PathBuf,
    /// Read the file in this format, such as csv [default: by the file's name]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    /// Import the valid rows if some rows are bad; without this option, nothing is imported then
    #[arg(long)]
    skip_bad_rows: bool,
    /// Create the database if it does not exist; without this option, that is an error
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run(args: &ImportArgs, clock: &Clock) -> ExitCode {
    run_to_end(args, clock).await.unwrap_or_else(|code| code)
}

async fn run_to_end(args: &ImportArgs, clock: &Clock) -> Result<ExitCode, ExitCode> {
    let name = args.file.display();
    // A directory file is recognized by its content, also if `--format` is given.
    let is_json = args.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let given = args.format.or(is_json.then_some(FormatArg::Jsonl));
    let format = format(given, &args.file)?;
    let file = File::open(&args.file).map_err(|error| fail(EXIT_USAGE, &format!("{name}: {error}")))?;
    let (location, hash_key) = location(&args.config.sources())?;
    let mut interrupt = Interrupt::listen().map_err(|error| fail(1, &error))?;
    let (mut bar, began) = (Bar::new(interrupt.clone()), Instant::now());
    let stopped = || fail(1, &"stopped before the database answered; nothing was imported");
    let opened = open(&location, hash_key.clone(), false, &mut interrupt).await.ok_or_else(stopped)?;
    let (database, note) = match opened {
        Ok(database) => (database, ""),
        Err(StorageError::NoDatabase(_)) if args.create => {
            // The file is checked first, so that a bad file leaves no database behind, and none that has a wrong hash
            // key.
            let key = hash_key.clone().map_or_else(HashKey::random, Ok).map_err(|error| fail(1, &error))?;
            let directory = &Directory::in_memory(key);
            let import = Import { directory, clock, format, skip_bad_rows: args.skip_bad_rows, check_only: true };
            let report = import.run(&file, &mut |progress| bar.show(progress)).await;
            if !matches!(report.ended, Ended::Done) {
                bar.clear();
                return Ok(print_report(&report, args, began.elapsed()));
            }
            let opened = open(&location, hash_key, true, &mut interrupt).await.ok_or_else(stopped)?;
            (opened.map_err(|error| fail_to_open(&error))?, ", a new database")
        }
        Err(error @ StorageError::NoDatabase(_)) => {
            return Ok(fail(EXIT_USAGE, &format!("{error}: check that setting, or create the database with --create")));
        }
        Err(error) => return Ok(fail_to_open(&error)),
    };
    let _ = writeln!(io::stderr(), "importing into {location}{note}");
    let directory = &Directory::in_database(database.clone());
    let import = Import { directory, clock, format, skip_bad_rows: args.skip_bad_rows, check_only: false };
    let report = import.run(&file, &mut |progress| bar.show(progress)).await;
    bar.clear();
    database.close().await;
    Ok(print_report(&report, args, began.elapsed()))
}

/// Prints the result and returns the exit code.
fn print_report(report: &Report, args: &ImportArgs, elapsed: Duration) -> ExitCode {
    let name = args.file.display();
    if !report.bad.is_empty() {
        let rows = count(report.bad.len() as u64, "row");
        let _ = write!(io::stderr(), "{name}: {rows} cannot be imported:\n{}", report.bad);
    }
    if !report.warnings.is_empty() {
        let rows = count(report.warnings.len() as u64, "row");
        let _ = write!(io::stderr(), "warning: {name}: {rows} may contain a mistake:\n{}", report.warnings);
    }
    if report.imported.total() > 0 || matches!(report.ended, Ended::Done) {
        print(&summary(report, elapsed));
    }
    match &report.ended {
        Ended::Done => ExitCode::SUCCESS,
        Ended::Stopped => fail(1, &"stopped before the end; import the file again to continue"),
        Ended::Refused if report.imported.total() == 0 => {
            fail(1, &"nothing was imported: fix these rows, or pass --skip-bad-rows to import the rest")
        }
        Ended::Refused => fail(1, &"these rows were not imported"),
        Ended::Failed(error) => fail(error_code(error), &format!("{name}: {error}")),
    }
}

/// 1 for errors that another attempt may not have, 64 for errors in the file.
fn error_code(error: &TransferError) -> u8 {
    match error {
        TransferError::File(_) | TransferError::FileHasChanged(_) | TransferError::Directory(_) => 1,
        _ => EXIT_USAGE,
    }
}

fn summary(report: &Report, elapsed: Duration) -> String {
    let Report { imported, changed, bad, .. } = report;
    let rows = imported.total();
    let skipped = if bad.is_empty() { String::new() } else { format!(", {} skipped", bad.len()) };
    format!(
        "imported {}: {changed} changed, {} unchanged{skipped}; {} rows in {:.1} s, {} rows/s\n",
        describe(imported),
        rows.saturating_sub(*changed),
        rows,
        elapsed.as_secs_f64(),
        per_second(rows, elapsed),
    )
}

pub(super) fn describe(counts: &Counts) -> String {
    format!(
        "{}, {}, {}, {}, {}",
        count(counts.stores, "store"),
        count(counts.shoppers, "shopper"),
        count(counts.identity_keys, "identity key"),
        count(counts.recognition_tokens, "recognition token"),
        count(counts.customers, "customer"),
    )
}
