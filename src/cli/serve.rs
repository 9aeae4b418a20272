//! `serve`: runs the connector. `demo` shares its start and its signals.

use std::fmt::Display;
use std::future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{EXIT_USAGE, fail};
use crate::app::{self, App, StartError, WatchedFiles};
use crate::config::{Config, LogFormat, Mode, Sources, log_format};
use crate::observe::logs;

pub(super) const HELP: &str = "\
Example:
  identity-connector serve --config connector.toml

Exit codes:
  0   stopped by SIGTERM or SIGINT
  1   failed
  64  bad configuration or usage";

pub(super) async fn run(sources: &Sources) -> ExitCode {
    start(Mode::Serve, sources, |_| (), |_, ()| ()).await
}

/// Starts the connector and runs it until SIGTERM or SIGINT.
///
/// `prepare` completes the configuration; its result is passed to `started` after the ports are bound. In `serve`,
/// changed files are reloaded, and all files on SIGHUP. A demo stops on SIGHUP, which closing its terminal sends.
pub(super) async fn start<T>(
    mode: Mode,
    sources: &Sources,
    prepare: impl FnOnce(&mut Config) -> T,
    started: impl FnOnce(&App, T),
) -> ExitCode {
    let mut config = match Config::load(mode, sources) {
        Ok(config) => config,
        Err(error) => return fail_to_start(log_format(mode, sources), EXIT_USAGE, &error),
    };
    let format = config.log.format;
    let watched = WatchedFiles::new(mode, sources, &config);
    let prepared = prepare(&mut config);
    let log = match logs::init(&config.log) {
        Ok(guard) => guard,
        Err(error) => return fail_to_start(format, 1, &error),
    };
    // Before the start: process 1 of a container ignores every signal without a handler.
    let (mut stop, mut reload) = match signals(mode) {
        Ok(signals) => signals,
        Err(error) => return fail_to_start(format, 1, &format!("cannot listen for signals: {error}")),
    };
    let app = tokio::select! {
        built = app::build(config) => match built {
            Ok(app) => app,
            Err(error) => {
                drop(log); // writes the buffered lines, so that the error is the last line
                return fail_to_start(format, exit_code(&error), &error);
            }
        },
        () = stop.requested() => {
            tracing::info!("stopped before it was ready");
            return ExitCode::SUCCESS;
        }
    };
    started(&app, prepared);
    let reload = app.reload().run(watched, async || received(&mut reload).await);
    let stop = async {
        tokio::select! {
            () = stop.requested() => {}
            () = reload => {}
        }
    };
    app.run(stop).await;
    ExitCode::SUCCESS
}

/// Prints why the connector does not start, in the format of the log, and returns the exit code.
fn fail_to_start(format: LogFormat, code: u8, error: &dyn Display) -> ExitCode {
    match format {
        LogFormat::Text => return fail(code, error),
        LogFormat::Json => drop(io::stderr().write_all(logs::error_line(&error.to_string()).as_bytes())),
    }
    ExitCode::from(code)
}

/// The signals that stop the connector.
struct Stop {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
}

/// The signals that stop the connector, and the signal that reloads files. SIGHUP stops a demo and reloads in `serve`.
fn signals(mode: Mode) -> io::Result<(Stop, Option<Signal>)> {
    let listen = |kind| signal(kind).map(Some);
    let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let hangup = listen(SignalKind::hangup())?;
    let (hangup, reload) = if mode.is_demo() { (hangup, None) } else { (None, hangup) };
    Ok((Stop { terminate, interrupt, hangup }, reload))
}

/// Completes when the signal arrives; never if there is no signal.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => future::pending().await,
    }
}

impl Stop {
    async fn requested(&mut self) {
        tokio::select! {
            () = received(&mut self.terminate) => {}
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.hangup) => {}
        }
    }
}

/// 64 for errors that only an operator can correct; 1 for errors that another start may not have.
pub(super) fn exit_code(error: &StartError) -> u8 {
    match error {
        StartError::DirectoryUnreadable { .. } | StartError::DirectoryFile(_) => EXIT_USAGE,
        StartError::Tls(_) | StartError::Files(_) => EXIT_USAGE,
        StartError::Storage(error) if error.is_misconfiguration() => EXIT_USAGE,
        StartError::Storage(_)
        | StartError::Ledger(_)
        | StartError::Directory(_)
        | StartError::Bind(_)
        | StartError::DemoIssuer(_)
        | StartError::Traces(_)
        | StartError::Randomness(_) => 1,
    }
}
