//! `serve`: the connector for real; and what `demo` shares with it.

use std::fmt::Display;
use std::future;
use std::io::{self, Write as _};
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{EXIT_USAGE, fail};
use crate::app::{self, App, StartError, Watch};
use crate::config::{Config, LogFormat, Mode, Sources, log_format};
use crate::telemetry;

pub(super) async fn run(sources: &Sources) -> ExitCode {
    start(Mode::Serve, sources, |_| (), |_, ()| ()).await
}

/// Starts and runs until SIGTERM or SIGINT. `prepare` completes the configuration; what it returns is handed to `started` once the ports
/// are bound. In `serve`, files that change are read again, and all of them on SIGHUP; a demo ends on SIGHUP, which is what closing its
/// terminal sends.
pub(super) async fn start<T>(
    mode: Mode,
    sources: &Sources,
    prepare: impl FnOnce(&mut Config) -> T,
    started: impl FnOnce(&App, T),
) -> ExitCode {
    let mut config = match Config::load(mode, sources) {
        Ok(config) => config,
        Err(error) => return not_started(log_format(mode, sources), EXIT_USAGE, &error),
    };
    let format = config.log.format;
    let watch = Watch::new(mode, sources, &config);
    let prepared = prepare(&mut config);
    let log = match telemetry::init(&config.log) {
        Ok(guard) => guard,
        Err(error) => return not_started(format, 1, &error),
    };
    // First of all: process 1 of a container ignores a signal that it has no handler for.
    let (mut stop, mut reload) = match signals(mode) {
        Ok(signals) => signals,
        Err(error) => return not_started(format, 1, &format!("signals cannot be received: {error}")),
    };
    let app = tokio::select! {
        built = app::build(config) => match built {
            Ok(app) => app,
            Err(error) => {
                drop(log); // writes its lines, so that the error is the last one
                return not_started(format, exit_code(&error), &error);
            }
        },
        () = stop.asked() => {
            tracing::info!("stopped before it was ready");
            return ExitCode::SUCCESS;
        }
    };
    started(&app, prepared);
    let reload = app.reload().run(watch, async || received(&mut reload).await);
    let stop = async {
        tokio::select! {
            () = stop.asked() => {}
            () = reload => {}
        }
    };
    app.run(stop).await;
    ExitCode::SUCCESS
}

/// Says why it does not start, in the format of the log, and returns the exit code.
fn not_started(format: LogFormat, code: u8, error: &dyn Display) -> ExitCode {
    match format {
        LogFormat::Text => return fail(code, error),
        LogFormat::Json => drop(io::stderr().write_all(telemetry::error_line(&error.to_string()).as_bytes())),
    }
    ExitCode::from(code)
}

/// The signals that ask for the end.
struct Stop {
    terminate: Option<Signal>,
    interrupt: Option<Signal>,
    hangup: Option<Signal>,
}

/// The signals that ask for the end, and the one that asks to read files again. SIGHUP is one of the former in a demo, else the latter.
fn signals(mode: Mode) -> io::Result<(Stop, Option<Signal>)> {
    let listen = |kind| signal(kind).map(Some);
    let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let hangup = listen(SignalKind::hangup())?;
    let (hangup, reload) = if mode.is_demo() { (hangup, None) } else { (None, hangup) };
    Ok((Stop { terminate, interrupt, hangup }, reload))
}

/// Completes when the signal comes; never, without one.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => future::pending().await,
    }
}

impl Stop {
    async fn asked(&mut self) {
        tokio::select! {
            () = received(&mut self.terminate) => {}
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.hangup) => {}
        }
    }
}

/// A wrong file is wrong configuration; anything else may be better at the next start.
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
