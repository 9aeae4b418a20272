//! What `import` and `export` have in common: the database of the configuration, how a file is written, how far it has come, Ctrl-C.

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

/// How long the rows under way may take once the end was asked for.
const PATIENCE: Duration = Duration::from_secs(15);

/// `--format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FormatArg {
    /// JSON lines
    Jsonl,
    /// A table with a header
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

/// The format that was asked for, or that the file's name tells of.
pub(super) fn format(given: Option<FormatArg>, file: &Path) -> Result<Format, ExitCode> {
    given.map(Format::from).or_else(|| Format::of(file)).ok_or_else(|| {
        let what = "its name does not end in .jsonl, .ndjson or .csv: say with --format what it is";
        fail(EXIT_USAGE, &format!("{}: {what}", file.display()))
    })
}

/// Which database the configuration names, and its hash key.
pub(super) fn location(sources: &Sources) -> Result<(Location, Option<HashKey>), ExitCode> {
    match load_storage(sources).map_err(|error| fail(EXIT_USAGE, &error))? {
        (Storage::Database(location), hash_key) => Ok((location, hash_key)),
        (Storage::Memory, _) => {
            let what = "storage.url: memory: is gone with its process: set sqlite:// and a path, or postgres://";
            Err(fail(EXIT_USAGE, &what))
        }
    }
}

/// Opens it; `may_create`: whether it may be a new one. `None` when the end was asked for meanwhile.
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
        () = interrupt.asked() => None,
    }
}

/// Why it was not opened, and the exit code.
pub(super) fn not_opened(error: &StorageError) -> ExitCode {
    fail(if error.is_misconfiguration() { EXIT_USAGE } else { 1 }, error)
}

/// Set once somebody wants it to end: Ctrl-C, or SIGTERM.
#[derive(Clone, Debug)]
pub(super) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens from now on. Where the process does not end, since a pipe that is not read blocks the thread, a second signal
    /// ends the process, or time does.
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
                () = sleep(PATIENCE) => {}
            }
            let _ = fail(1, &"stopped before the end");
            std::process::exit(1);
        });
        Ok(Self(is_set))
    }

    /// Completes once it is set.
    async fn asked(&mut self) {
        let _ = self.0.wait_for(|is_set| *is_set).await; // the sender lives as long as the process
    }

    fn is_set(&self) -> bool {
        *self.0.borrow()
    }
}

/// A bar on standard error where that is a terminal, else nothing.
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

    /// Shows how far it has come, and whether to go on.
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

    /// Takes it off the terminal.
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
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
