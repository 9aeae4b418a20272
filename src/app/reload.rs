//! Reloads callers, certificates and the directory file while the connector runs: when one of their files changes, and
//! on request (SIGHUP). If a file cannot be used, the previous version stays in effect, and the log says why.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::files::{Part, WatchedFiles, settings};
use super::open;
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Directory;
use crate::observe::metrics::Metrics;
use crate::tls::Tls;

/// The interval of checks for changed files.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The prefix of the settings that can be reloaded.
const RELOADABLE: &str = "server.callers.";

/// The parts that are reloaded while [`Reload::run`] is awaited.
#[derive(Clone, Debug)]
pub struct Reload {
    pub(super) callers: Callers,
    pub(super) tls: Option<Tls>,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Reload {
    /// Reloads changed files, and everything whenever `requested` completes. Never returns.
    pub async fn run(self, mut watched: WatchedFiles, mut requested: impl AsyncFnMut()) {
        let mut ticks = interval(CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed: Vec<Part> = Vec::new();
        loop {
            let mut parts = tokio::select! {
                () = requested() => {
                    watched.check().await;
                    Part::ALL.to_vec()
                }
                _ = ticks.tick() => watched.changed().await,
            };
            if !parts.is_empty() {
                // A part that failed may depend on the file that has changed now, so it is tried again.
                let others: Vec<Part> = failed.drain(..).filter(|part| !parts.contains(part)).collect();
                parts.extend(others);
            }
            for part in parts {
                let reloaded = match part {
                    Part::Callers => self.callers(&watched).await,
                    Part::Tls => self.tls().await,
                    Part::Directory => self.directory(&watched).await,
                };
                // After a temporary error, the files count as not read, so that the next check tries again.
                if !matches!(reloaded, Err(ReloadError::Temporary(_))) {
                    watched.mark_read(part);
                }
                self.metrics.reloaded(part.setting(), reloaded.is_err());
                if let Err(error) = reloaded {
                    failed.push(part);
                    let setting = part.setting();
                    tracing::error!(setting, cause = %error, "reload failed; keeping the previous version");
                }
            }
        }
    }

    async fn callers(&self, watched: &WatchedFiles) -> Result<(), ReloadError> {
        let (mode, sources) = (watched.mode, watched.sources.clone());
        let read = spawn_blocking(move || (Config::load(mode, &sources), settings(mode, &sources)));
        let (config, now) = read.await.map_err(ReloadError::temporary)?;
        let callers = config.map_err(ReloadError::invalid)?.server.callers;
        let before = &watched.settings;
        let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
        let differs = |name: &&String| before.get(*name) != now.get(*name) && !name.starts_with(RELOADABLE);
        let changed: Vec<&str> = names.filter(differs).map(String::as_str).collect();
        if !changed.is_empty() {
            tracing::warn!(settings = changed.join(", "), "these changed settings take effect only after a restart");
        }
        if callers.is_empty() && !self.callers.is_empty() {
            return Err(ReloadError::invalid(
                "no caller is configured any more; restart the connector to allow unauthenticated requests",
            ));
        }
        let names: Vec<&str> = callers.iter().map(|caller| &*caller.name).collect();
        tracing::info!(callers = names.join(", "), "callers reloaded");
        self.callers.replace(callers);
        Ok(())
    }

    async fn tls(&self) -> Result<(), ReloadError> {
        let Some(tls) = self.tls.clone() else { return Ok(()) };
        let read = spawn_blocking(move || tls.reload()).await.map_err(ReloadError::temporary)?;
        if read.map_err(ReloadError::invalid)? {
            tracing::info!("certificates reloaded");
        }
        Ok(())
    }

    async fn directory(&self, watched: &WatchedFiles) -> Result<(), ReloadError> {
        let (source, hash_key) = (watched.source.clone(), self.directory.hash_key().clone());
        let read = spawn_blocking(move || open::read_source(&source, &hash_key)).await;
        if let Some(loaded) = read.map_err(ReloadError::temporary)?.map_err(ReloadError::invalid)? {
            open::import(&self.directory, loaded, self.clock.now()).await.map_err(ReloadError::temporary)?;
        }
        Ok(())
    }
}

/// Why a part was not reloaded.
#[derive(Debug)]
enum ReloadError {
    /// A file cannot be used until it changes.
    Invalid(String),
    /// The next attempt may succeed.
    Temporary(String),
}

impl ReloadError {
    fn invalid(error: impl Display) -> Self {
        Self::Invalid(error.to_string())
    }

    fn temporary(error: impl Display) -> Self {
        Self::Temporary(error.to_string())
    }
}

impl Display for ReloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Invalid(error) | Self::Temporary(error)) = self;
        f.write_str(error)
    }
}
