//! Logging to standard error, as JSON or as text, and the panic hook.
//!
//! Log lines never block a request: a thread writes them, and lines are dropped and counted when nothing reads them.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::clock::later;
use crate::config::{Log, LogFormat};
use crate::observe::json_lines::JsonLines;
pub(crate) use crate::observe::json_lines::error_line;
use crate::observe::metrics::readings;

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

/// The maximum number of lines of one kind in each [`WINDOW`].
const MAX_LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Limits log lines that any client can cause in any number: of each kind, ten lines a second are written, and the other
/// lines are counted. There must be few kinds, because memory grows with them. Clones share the limits.
#[derive(Debug)]
pub(crate) struct Samples<K> {
    /// The current window of each kind.
    windows: Arc<Mutex<HashMap<K, Window>>>,
    report: fn(&K, u64),
}

/// The lines of one kind in one window.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    written: u32,
    omitted: u64,
}

impl<K: Clone + Eq + Hash + Send + 'static> Samples<K> {
    /// `report` writes one line with the number of omitted lines of a kind.
    #[must_use]
    pub(crate) fn new(report: fn(&K, u64)) -> Self {
        Self { windows: Arc::default(), report }
    }

    /// Whether to write the next line of this kind. If not, the line is counted, and reported at the end of its window.
    #[must_use]
    pub(crate) fn admits(&self, kind: &K) -> bool {
        let now = Instant::now();
        let mut windows = self.windows();
        let window = windows.entry(kind.clone()).or_insert_with(|| Window::new(now));
        let mut omitted_before = 0;
        if now.saturating_duration_since(window.began) >= WINDOW {
            omitted_before = window.omitted;
            *window = Window::new(now);
        }
        let admitted = window.written < MAX_LINES;
        if admitted {
            window.written = window.written.saturating_add(1);
        } else {
            window.omitted = window.omitted.saturating_add(1);
            // If no further line of this kind follows, only this task reports the number.
            if window.omitted == 1
                && let Ok(runtime) = Handle::try_current()
            {
                let (samples, kind, began) = (self.clone(), kind.clone(), window.began);
                runtime.spawn(async move {
                    sleep_until(later(began, WINDOW)).await;
                    samples.end(&kind, began);
                });
            }
        }
        drop(windows);
        if omitted_before > 0 {
            (self.report)(kind, omitted_before);
        }
        admitted
    }

    /// Ends the window that began at `began` and reports it, unless a later line has done so.
    fn end(&self, kind: &K, began: Instant) {
        let mut windows = self.windows();
        let ended = windows.get(kind).copied().filter(|window| window.began == began);
        if let Some(Window { omitted, .. }) = ended {
            windows.remove(kind);
            drop(windows);
            (self.report)(kind, omitted);
        }
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<K, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Samples<K> {
    fn clone(&self) -> Self {
        Self { windows: Arc::clone(&self.windows), report: self.report }
    }
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, written: 0, omitted: 0 }
    }
}
