//! `serve`: the connector for real; and what `demo` has in common with it.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{EXIT_USAGE, fail};
use crate::app::{self, App, StartError, Watch};
use crate::config::{Config, Mode, Sources};
use crate::telemetry;

pub(super) async fn run(sources: &Sources) -> ExitCode {
    start(Mode::Serve, sources, |_| (), |_| ()).await
}

/// Lets `prepare` see to the configuration, starts, calls `started`, and runs until SIGTERM or SIGINT. Files that change are read again, and
/// all of them on SIGHUP.
pub(super) async fn start(
    mode: Mode,
    sources: &Sources,
    prepare: impl FnOnce(&mut Config),
    started: impl FnOnce(&App),
) -> ExitCode {
    let mut config = match Config::load(mode, sources) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    let watch = Watch::new(mode, sources, &config);
    prepare(&mut config);
    let _written_at_the_end = match telemetry::init(&config.log) {
        Ok(guard) => guard,
        Err(error) => return fail(1, &error),
    };
    // Taken over before anything else: process 1 of a container ignores a signal that nobody has.
    let signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)] = signals else {
        return fail(1, &"signals cannot be received");
    };
    let app = match app::build(config).await {
        Ok(app) => app,
        Err(error) => return fail(exit_code(&error), &error),
    };
    started(&app);
    let asked = async || {
        hangup.recv().await;
    };
    let reload = app.reload().run(watch, asked);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = reload => {}
        }
    };
    app.run(stop).await;
    ExitCode::SUCCESS
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
        | StartError::Bind { .. }
        | StartError::DemoIssuer(_)
        | StartError::Traces(_)
        | StartError::Randomness(_) => 1,
    }
}
