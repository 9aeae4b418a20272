//! `import` and `export`: move the directory between a file and the database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{ConfigArgs, EXIT_USAGE, fail, print};
use crate::clock::Clock;
use crate::config::{Storage, load_storage};
use crate::digest::HashKey;
use crate::directory::Directory;
use crate::storage::{Database, Location, StorageError};
use crate::transfer::{Counts, Ended, Format, Import, Phase, Progress, Report, RowKind, TransferError, export};

/// The maximum time to finish the current batch after Ctrl-C.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

pub(super) const IMPORT_HELP: &str = "\
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
    format: Option<Format>,
    /// Import the valid rows if some rows are bad; without this option, nothing is imported then
    #[arg(long)]
    skip_bad_rows: bool,
    /// Create the database if it does not exist; without this option, that is an error
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run_import(args: &ImportArgs, clock: &Clock) -> Result<ExitCode, ExitCode> {
    let name = args.file.display();
    // A directory file is recognized by its content, also if `--format` is given.
    let is_json = args.file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let given = args.format.or(is_json.then_some(Format::JsonLines));
    let format = format_of(given, &args.file)?;
    let file = File::open(&args.file).map_err(|error| fail(EXIT_USAGE, &format!("{name}: {error}")))?;
    let (location, hash_key) = location(&args.config)?;
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
    let unchanged = imported.total().saturating_sub(*changed);
    let skipped = if bad.is_empty() { String::new() } else { format!(", {} skipped", bad.len()) };
    let kinds = describe(imported);
    format!("imported {kinds}: {changed} changed, {unchanged} unchanged{skipped}; {}\n", speed(imported, elapsed))
}

fn describe(counts: &Counts) -> String {
    let nouns = ["store", "shopper", "identity key", "recognition token", "customer"];
    RowKind::ALL.into_iter().zip(nouns).map(|(kind, noun)| count(counts.of(kind), noun)).collect::<Vec<_>>().join(", ")
}

/// `5 stores`, `1 store`.
fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

fn speed(counts: &Counts, elapsed: Duration) -> String {
    let rows = counts.total();
    format!("{rows} rows in {:.1} s, {} rows/s", elapsed.as_secs_f64(), per_second(rows, elapsed))
}

pub(super) const EXPORT_HELP: &str = "\
Example:
  identity-connector export --output directory.jsonl --config connector.toml";

#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// Write to this file, such as directory.jsonl; only its owner can read it [default: standard output]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write this format, such as csv [default: by the file's name; jsonl to standard output]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(super) async fn run_export(args: &ExportArgs) -> Result<ExitCode, ExitCode> {
    let format = match &args.output {
        Some(file) => format_of(args.format, file)?,
        None => args.format.unwrap_or(Format::JsonLines),
    };
    let (location, hash_key) = location(&args.config)?;
    let mut interrupt = Interrupt::listen().map_err(|error| fail(1, &error))?;
    let database = match open(&location, hash_key, false, &mut interrupt).await {
        Some(opened) => opened.map_err(|error| fail_to_open(&error))?,
        None => return Ok(fail(1, &"stopped before the database answered; nothing was exported")),
    };
    let directory = Directory::in_database(database.clone());
    let (mut bar, began) = (Bar::new(interrupt), Instant::now());
    let written = match &args.output {
        Some(file) => to_file(&directory, format, file, &mut bar).await,
        None => to_writer(&directory, format, io::stdout().lock(), &mut bar).await.map_err(|error| fail(1, &error)),
    };
    bar.clear();
    database.close().await;
    let Some(counts) = written? else { return Ok(fail(1, &"stopped before the end")) };
    let _ = writeln!(io::stderr(), "exported {}: {}", describe(&counts), speed(&counts, began.elapsed()));
    Ok(ExitCode::SUCCESS)
}

async fn to_writer(
    directory: &Directory,
    format: Format,
    out: impl Write,
    bar: &mut Bar,
) -> Result<Option<Counts>, TransferError> {
    export(directory, format, &mut BufWriter::new(out), &mut |progress| bar.show(progress)).await
}

/// Writes a temporary file and renames it at the end, so that the file is always complete.
async fn to_file(
    directory: &Directory,
    format: Format,
    file: &Path,
    bar: &mut Bar,
) -> Result<Option<Counts>, ExitCode> {
    let fail_with = |code| move |error: io::Error| fail(code, &format!("{}: {error}", file.display()));
    if file.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        // A pipe, or /dev/null.
        let out = OpenOptions::new().write(true).open(file).map_err(fail_with(EXIT_USAGE))?;
        return to_writer(directory, format, out, bar).await.map_err(|error| fail(1, &error));
    }
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".part");
    let temporary = PathBuf::from(temporary);
    // An existing file may be readable by other users, so it is deleted first.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail_with(EXIT_USAGE)(error)),
        _ => {}
    }
    let out = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary);
    let out = out.map_err(fail_with(EXIT_USAGE))?;
    let written = match to_writer(directory, format, &out, bar).await {
        Ok(Some(counts)) => out.sync_all().and_then(|()| fs::rename(&temporary, file)).map(|()| Some(counts)),
        Ok(None) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    };
    if !matches!(written, Ok(Some(_))) {
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(fail_with(1))
}

/// The format that is given, or that the file's name ends in.
fn format_of(given: Option<Format>, file: &Path) -> Result<Format, ExitCode> {
    given.or_else(|| Format::from_file_name(file)).ok_or_else(|| {
        let message = "its name does not end in .jsonl, .ndjson or .csv: give the format with --format";
        fail(EXIT_USAGE, &format!("{}: {message}", file.display()))
    })
}

/// The database of the configuration, and its hash key.
fn location(config: &ConfigArgs) -> Result<(Location, Option<HashKey>), ExitCode> {
    match load_storage(&config.sources()).map_err(|error| fail(EXIT_USAGE, &error))? {
        (Storage::Database(location), hash_key) => Ok((location, hash_key)),
        (Storage::Memory, _) => {
            let message =
                "storage.url: memory: has no data to import into or export: set sqlite:// and a path, or postgres://";
            Err(fail(EXIT_USAGE, &message))
        }
    }
}

/// Opens the database. `may_create`: whether it is created if it does not exist. `None` after Ctrl-C.
async fn open(
    location: &Location,
    hash_key: Option<HashKey>,
    may_create: bool,
    interrupt: &mut Interrupt,
) -> Option<Result<Database, StorageError>> {
    let opening = Database::open_with(location, hash_key, may_create, |waiting| {
        let _ = writeln!(io::stderr(), "{waiting}");
    });
    tokio::select! {
        opened = opening => Some(opened),
        () = interrupt.requested() => None,
    }
}

/// Prints why the database cannot be opened, and returns the exit code.
fn fail_to_open(error: &StorageError) -> ExitCode {
    fail(if error.is_misconfiguration() { EXIT_USAGE } else { 1 }, error)
}

/// Set after Ctrl-C or SIGTERM.
#[derive(Clone, Debug)]
struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for signals from now on. If the process does not stop, for example because nothing reads the pipe that
    /// it writes to, a second signal or [`STOP_TIMEOUT`] ends it.
    fn listen() -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (set, is_set) = watch::channel(false);
        tokio::spawn(async move {
            let mut signalled = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            signalled().await;
            set.send_replace(true);
            tokio::select! {
                () = signalled() => {}
                () = sleep(STOP_TIMEOUT) => {}
            }
            let _ = fail(1, &"stopped before the end");
            std::process::exit(1);
        });
        Ok(Self(is_set))
    }

    /// Completes when it is set.
    async fn requested(&mut self) {
        let _ = self.0.wait_for(|is_set| *is_set).await; // the sender lives as long as the process
    }

    fn is_set(&self) -> bool {
        *self.0.borrow()
    }
}

/// A progress bar on standard error if that is a terminal; otherwise nothing is shown.
#[derive(Debug)]
struct Bar {
    bar: ProgressBar,
    phase: Option<Phase>,
    began: Instant,
    interrupt: Interrupt,
}

impl Bar {
    fn new(interrupt: Interrupt) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, phase: None, began: Instant::now(), interrupt }
    }

    /// Shows the progress. Returns `Break` after Ctrl-C.
    fn show(&mut self, progress: Progress) -> ControlFlow<()> {
        if self.phase != Some(progress.phase) {
            self.phase = Some(progress.phase);
            self.began = Instant::now();
            self.bar.set_style(style(progress.phase));
        }
        self.bar.set_length(progress.total);
        self.bar.set_position(progress.bytes);
        self.bar.set_message(format!("{} rows, {}/s", progress.rows, per_second(progress.rows, self.began.elapsed())));
        if self.interrupt.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Removes the bar from the terminal.
    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(phase: Phase) -> ProgressStyle {
    let template = match phase {
        Phase::Check => "checking  {wide_bar} {binary_bytes} of {binary_total_bytes}, {msg}, {eta} left",
        Phase::Import => "importing {wide_bar} {binary_bytes} of {binary_total_bytes}, {msg}, {eta} left",
        Phase::Export => "exporting {spinner} {msg}",
    };
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn per_second(rows: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(rows).saturating_mul(1000).checked_div(millis).unwrap_or_default()).unwrap_or(u64::MAX)
}
