//! The code that `import` and `export` share: opening the database, the file format, the progress bar, Ctrl-C.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{EXIT_USAGE, fail};
use crate::config::{Sources, Storage, load_storage};
use crate::digest::HashKey;
use crate::storage::{Database, Location, StorageError};
use crate::transfer::{Format, Phase, Progress};

/// The maximum time to finish the current batch after Ctrl-C.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);

/// `--format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FormatArg {
    /// One JSON object a line
    Jsonl,
    /// A table with a header line
    Csv,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Jsonl => Self::JsonLines,
            FormatArg::Csv => Self::Csv,
        }
    }
}

/// The format that is given, or that the file's name ends in.
pub(super) fn format(given: Option<FormatArg>, file: &Path) -> Result<Format, ExitCode> {
    given.map(Format::from).or_else(|| Format::from_file_name(file)).ok_or_else(|| {
        let message = "its name does not end in .jsonl, .ndjson or .csv: give the format with --format";
        fail(EXIT_USAGE, &format!("{}: {message}", file.display()))
    })
}

/// The database of the configuration, and its hash key.
pub(super) fn location(sources: &Sources) -> Result<(Location, Option<HashKey>), ExitCode> {
    match load_storage(sources).map_err(|error| fail(EXIT_USAGE, &error))? {
        (Storage::Database(location), hash_key) => Ok((location, hash_key)),
        (Storage::Memory, _) => {
            let message =
                "storage.url: memory: has no data to import into or export: set sqlite:// and a path, or postgres://";
            Err(fail(EXIT_USAGE, &message))
        }
    }
}

/// Opens the database. `may_create`: whether it is created if it does not exist. `None` after Ctrl-C.
pub(super) async fn open(
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
pub(super) fn fail_to_open(error: &StorageError) -> ExitCode {
    fail(if error.is_misconfiguration() { EXIT_USAGE } else { 1 }, error)
}

/// Set after Ctrl-C or SIGTERM.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for signals from now on. If the process does not stop, for example because nothing reads the pipe that
    /// it writes to, a second signal or [`STOP_TIMEOUT`] ends it.
    pub(super) fn listen() -> io::Result<Self> {
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
pub(super) struct Bar {
    bar: ProgressBar,
    phase: Option<Phase>,
    began: Instant,
    interrupt: Interrupt,
}

impl Bar {
    pub(super) fn new(interrupt: Interrupt) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        Self { bar, phase: None, began: Instant::now(), interrupt }
    }

    /// Shows the progress. Returns `Break` after Ctrl-C.
    pub(super) fn show(&mut self, progress: Progress) -> ControlFlow<()> {
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
    pub(super) fn clear(&self) {
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

pub(super) fn per_second(rows: u64, elapsed: Duration) -> u64 {
    let millis = elapsed.as_millis().max(1);
    u64::try_from(u128::from(rows).saturating_mul(1000).checked_div(millis).unwrap_or_default()).unwrap_or(u64::MAX)
}

/// `5 stores`, `1 store`.
pub(super) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
