//! Logging to standard error, as JSON or as text, and the panic hook.
//!
//! Log lines never block a request: a thread writes them, and lines are dropped and counted when nothing reads them.

mod json_lines;
mod samples;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Log, LogFormat};
use crate::observe::metrics::readings;
pub(crate) use json_lines::error_line;

use json_lines::JsonLines;
pub(crate) use samples::Samples;

/// Whether to use colours: on a terminal, unless `NO_COLOR` is set.
#[must_use]
pub(crate) fn use_colour(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The maximum number of lines that wait to be written. Further lines are dropped and counted.
const BACKLOG: usize = 20_000;

/// The time in which lines are collected for one write. Under load, a wake-up and a write for each line would cost more
/// than the line itself.
const WRITE_INTERVAL: Duration = Duration::from_millis(2);

static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Adds the metrics of the log to a registry.
pub(crate) fn register(registry: &mut Registry) {
    readings! { registry, dropped_lines = &dropped_lines;
        /// Log lines dropped because the reader of the log was too slow. Growth means gaps in the log; scans are not
        /// delayed.
        counter log_lines_dropped = dropped_lines();
    }
}

/// The number of log lines that were dropped since the start, because nothing read them.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |counter| counter.dropped_lines() as u64)
}

/// Sets up logging to standard error for the whole process, and a panic hook that logs where a panic occurred. It does
/// not log the panic's message, which may contain an identity key. Dropping the guard writes the lines that wait.
///
/// # Errors
/// If logging is already set up.
pub fn init(log: &Log) -> Result<WorkerGuard, TryInitError> {
    // log.level applies to the connector; libraries log only warnings and errors.
    let libraries = log.level.min(LevelFilter::WARN);
    let filter = Targets::new().with_default(libraries).with_target(env!("CARGO_CRATE_NAME"), log.level);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BACKLOG)
        .finish(BatchWriter(BufWriter::new(io::stderr())));
    let _ = DROPPED.set(writer.error_counter());
    let lines = fmt::layer().with_writer(writer).with_target(false);
    let lines = match log.format {
        LogFormat::Json => lines.event_format(JsonLines).with_filter(filter).boxed(),
        LogFormat::Text => lines.with_ansi(use_colour(&io::stderr())).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    Ok(guard)
}

/// Collects lines and writes them when it is flushed, then waits for [`WRITE_INTERVAL`]. The writing thread flushes
/// when no more lines wait.
struct BatchWriter<W: Write>(BufWriter<W>);

impl<W: Write> Write for BatchWriter<W> {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.write(lines)
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.0.flush();
        std::thread::sleep(WRITE_INTERVAL);
        written
    }
}
