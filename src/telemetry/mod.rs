//! Log lines, and what is said of a panic.

mod json_lines;
mod samples;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Log, LogFormat};
pub use json_lines::error_line;

use json_lines::JsonLines;
pub use samples::Samples;

/// Whether what is written there may have colours: to a terminal, unless `NO_COLOR` is set.
#[must_use]
pub fn may_colour(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// How many lines may wait to be written. When whoever reads them is stuck, further ones are dropped and counted.
const BACKLOG: usize = 20_000;

/// How long lines are gathered before they are written at once: under load, a wake-up and a write for each would cost more than the line.
const GATHERING: Duration = Duration::from_millis(2);

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// How many log lines were dropped since the start because nobody took them.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Sets up logging to standard error for the whole process, and a panic hook that says where, but not with which words: they
/// may quote what a shopper showed. Lines are written by a thread of their own; dropping the guard writes what waits.
///
/// # Errors
/// When logging was set up before.
pub fn init(log: &Log) -> Result<WorkerGuard, TryInitError> {
    // The level is the connector's; of the libraries under it, only their warnings matter.
    let libraries = log.level.min(LevelFilter::WARN);
    let filter = Targets::new().with_default(libraries).with_target(env!("CARGO_CRATE_NAME"), log.level);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BACKLOG)
        .finish(Gathering(BufWriter::new(io::stderr())));
    let _ = DROPPED.set(writer.error_counter());
    let lines = fmt::layer().with_writer(writer).with_target(false);
    let lines = match log.format {
        LogFormat::Json => lines.event_format(JsonLines).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_ansi(may_colour(&io::stderr())).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    Ok(guard)
}

/// Writes what has come when it is flushed, which the thread that writes does when no more is there, and then lets more come.
struct Gathering<W: Write>(BufWriter<W>);

impl<W: Write> Write for Gathering<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.0.flush();
        std::thread::sleep(GATHERING);
        written
    }
}
