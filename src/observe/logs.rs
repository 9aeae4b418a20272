//! Logging to standard error, as JSON or as text, and the panic hook.
//!
//! Log lines never block a request: a thread writes them, and lines are dropped and counted when nothing reads them.

use std::collections::HashMap;
use std::fmt::{Debug, Display, Write as _};
use std::hash::Hash;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::SecondsFormat;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::clock::{Clock, later};
use crate::observe::metrics::readings;

/// `log.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The format of lines.
    pub format: LogFormat,
    /// The minimum level of lines.
    pub level: LevelFilter,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for a terminal.
    Text,
}

/// Whether to use colours: on a terminal, unless `NO_COLOR` is set.
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

/// Limits log lines that any client can cause in any number: of each kind, ten lines a second are written, and the
/// other lines are counted. There must be few kinds, because memory grows with them. Clones share the limits.
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
    pub(crate) fn new(report: fn(&K, u64)) -> Self {
        Self { windows: Arc::default(), report }
    }

    /// Whether to write the next line of this kind. If not, the line is counted, and reported at the end of its window.
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

/// Formats events as JSON objects, one a line: time, level, and the fields of the event. It ignores spans of the
/// `tracing` crate: the connector creates its own spans for OTLP.
///
/// It replaces the JSON formatter of `tracing-subscriber`, which took 25 % of the CPU instructions of a request: that
/// formatter serializes a line in small pieces, and each piece passes through three adapters and a check for UTF-8.
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let now = now();
        let mut line = Line(String::with_capacity(INITIAL_CAPACITY));
        line.push(&["{\"timestamp\":\"", &now, "\",\"level\":\"", event.metadata().level().as_str(), "\""]);
        event.record(&mut line);
        line.push(&["}\n"]);
        writer.write_str(&line.0)
    }
}

/// When a line is written, by the machine's clock: also in a test whose connector has another clock, so that its lines
/// can be compared with those of other programs.
fn now() -> String {
    Clock::System.now().to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The log line of an error that occurs before logging starts or after it has stopped.
pub(crate) fn error_line(message: &str) -> String {
    let message = serde_json::Value::from(message);
    format!("{{\"timestamp\":\"{}\",\"level\":\"ERROR\",\"message\":{message}}}\n", now())
}

/// The initial capacity of a line, in bytes: more than most lines need.
const INITIAL_CAPACITY: usize = 512;

/// A line that is being written. Each field becomes a member. Field names are Rust identifiers and need no escapes.
/// Writing to a string cannot fail.
struct Line(String);

impl Line {
    fn push(&mut self, pieces: &[&str]) {
        pieces.iter().for_each(|piece| self.0.push_str(piece));
    }

    /// Writes a member whose `Display` text is valid JSON.
    fn member(&mut self, field: &Field, value: impl Display) {
        self.push(&[",\"", field.name(), "\":"]);
        let _ = write!(self.0, "{value}");
    }

    /// Writes a string member. Few strings need an escape, so the text is written first and checked afterwards.
    fn text(&mut self, field: &Field, write: impl FnOnce(&mut String)) {
        self.push(&[",\"", field.name(), "\":\""]);
        let begin = self.0.len();
        write(&mut self.0);
        let needs_escape = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
        if self.0.as_bytes().iter().skip(begin).any(needs_escape) {
            let text = self.0.split_off(begin);
            self.0.pop(); // the escaped text has its own quotation marks
            self.0.push_str(&serde_json::Value::from(text).to_string());
        } else {
            self.0.push('"');
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |line| line.push_str(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, |line| {
            let _ = write!(line, "{value:?}");
        });
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, value);
    }

    /// NaN and infinity become null, because JSON has no such numbers.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, serde_json::Value::from(value));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The JSON of the one line that `log` writes.
    fn line(log: impl FnOnce()) -> Value {
        let written = Written::default();
        let to = written.clone();
        let lines = fmt().event_format(JsonLines).with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(lines, log);
        let bytes = written.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert_eq!((text.matches('\n').count(), text.ends_with('\n')), (1, true), "{text:?}");
        serde_json::from_str(&text).expect("JSON")
    }

    #[test]
    fn values_of_every_type_are_written_as_json() {
        let mut line = line(|| {
            let (none, some) = (None::<u64>, Some(7_u16));
            tracing::warn!(none, some, less = -1, yes = true, ms = 0.25, odd = f64::NAN, big = u64::MAX, shown = ?"a", "said \"so\"");
        });
        let time = line.as_object_mut().and_then(|members| members.remove("timestamp")).expect("a time");
        let time = time.as_str().expect("a text");
        assert!(time.len() == "2026-01-01T00:00:00.000000Z".len() && crate::domain::scan::parse_utc(time).is_some());
        let want = json!({
            "level": "WARN", "some": 7, "less": -1, "yes": true, "ms": 0.25, "odd": null, "big": u64::MAX,
            "shown": "\"a\"", "message": "said \"so\"",
        });
        assert_eq!(line, want);
    }

    proptest! {
        /// Text from a client cannot end a line or begin a member.
        #[test]
        fn any_text_is_written_unchanged(text in any::<String>(), shown in any::<String>()) {
            let line = line(|| tracing::info!(text, shown = %shown, "said"));
            prop_assert_eq!(&line["text"], &json!(text));
            prop_assert_eq!(&line["shown"], &json!(shown));
            prop_assert_eq!(line.as_object().map(serde_json::Map::len), Some(5));
        }
    }
}
