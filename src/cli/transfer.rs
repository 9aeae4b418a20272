//! What `import` and `export` have in common: the database of the configuration, how a file is written, how far it has come, Ctrl-C.

use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::serve::exit_code;
use super::{EXIT_USAGE, fail};
use crate::app::StartError;
use crate::config::{Sources, Storage, load_storage};
use crate::storage::{Database, Location};
use crate::transfer::{Format, Phase, Progress};

/// How long to say nothing while the database does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Opens the database of the configuration; `is_new`: whether it may be one that does not exist yet.
pub(super) async fn open(sources: &Sources, is_new: bool) -> Result<Database, ExitCode> {
    let (storage, hash_key) = load_storage(sources).map_err(|error| fail(EXIT_USAGE, &error))?;
    let Storage::Database(location) = storage else {
        let what = "storage.url: memory: is gone with its process: set sqlite:// and a path, or postgres://";
        return Err(fail(EXIT_USAGE, &what));
    };
    if let Location::Sqlite(path) = &location
        && !is_new
        && !path.exists()
    {
        return Err(fail(EXIT_USAGE, &format!("storage.url: {}: there is no such database", path.display())));
    }
    let opening = Database::open(&location, hash_key);
    tokio::pin!(opening);
    let opened = match timeout(PATIENCE, &mut opening).await {
        Ok(opened) => opened,
        Err(_) => {
            let _ = writeln!(io::stderr(), "waiting for the database");
            opening.await
        }
    };
    opened.map_err(|error| {
        let error = StartError::from(error);
        fail(exit_code(&error), &error)
    })
}

/// Set once somebody wants it to end: Ctrl-C, or SIGTERM.
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Self> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let flag = Self::default();
        let set = flag.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            set.0.store(true, Ordering::Relaxed);
        });
        Ok(flag)
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
