//! Log lines, and what is said of a panic.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{Log, LogFormat};

/// Sets up logging to standard error for the whole process, and a panic hook that says where, but not with which words: they
/// may quote what a shopper showed.
///
/// # Errors
/// When logging was set up before.
pub fn init(log: &Log) -> Result<(), TryInitError> {
    // The level is the connector's; of the libraries under it, only their warnings matter.
    let libraries = log.level.min(LevelFilter::WARN);
    let filter = Targets::new().with_default(libraries).with_target(env!("CARGO_CRATE_NAME"), log.level);
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let lines = match log.format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).with_filter(filter).boxed()
        }
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(lines).try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
    Ok(())
}
