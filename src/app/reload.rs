//! What is read again while the connector runs: callers, certificates and the directory file, when one of their files changes
//! and when somebody asks. What cannot be used changes nothing: what is known goes on counting, and the log says why.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::files::{Part, Watch, settings};
use super::open;
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::Config;
use crate::directory::Directory;
use crate::metrics::Metrics;
use crate::tls::Tls;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How settings begin that are read again.
const READ_AGAIN: &str = "server.callers.";

/// Reads again what can be, as long as [`Reload::run`] is awaited.
#[derive(Clone, Debug)]
pub struct Reload {
    pub(super) callers: Callers,
    pub(super) tls: Option<Tls>,
    pub(super) directory: Arc<Directory>,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
}

impl Reload {
    /// Goes on for ever; `asked` completes whenever somebody asks for everything to be read again.
    pub async fn run(self, mut watch: Watch, mut asked: impl AsyncFnMut()) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed: Vec<Part> = Vec::new();
        loop {
            let mut parts = tokio::select! {
                () = asked() => {
                    watch.look().await;
                    Part::ALL.to_vec()
                }
                _ = ticks.tick() => watch.changed().await,
            };
            if !parts.is_empty() {
                // What could not be read may have waited for the very file that has changed now.
                let others: Vec<Part> = failed.drain(..).filter(|part| !parts.contains(part)).collect();
                parts.extend(others);
            }
            for part in parts {
                let read = match part {
                    Part::Callers => self.callers(&watch).await,
                    Part::Tls => self.tls().await,
                    Part::Directory => self.directory(&watch).await,
                };
                // What may be better soon counts as not read yet, and is tried again.
                if !matches!(read, Err(Trouble::Passing(_))) {
                    watch.is_read(part);
                }
                self.metrics.reloaded(part.setting(), read.is_err());
                if let Err(trouble) = read {
                    failed.push(part);
                    let setting = part.setting();
                    tracing::error!(setting, cause = %trouble, "cannot be read again: what is known goes on counting");
                }
            }
        }
    }

    async fn callers(&self, watch: &Watch) -> Result<(), Trouble> {
        let (mode, sources) = (watch.mode, watch.sources.clone());
        let read = spawn_blocking(move || (Config::load(mode, &sources), settings(mode, &sources)));
        let (config, now) = read.await.map_err(Trouble::passing)?;
        let callers = config.map_err(Trouble::bad)?.server.callers;
        let names = watch.settings.keys().chain(now.keys().filter(|name| !watch.settings.contains_key(*name)));
        let differs = |name: &&String| watch.settings.get(*name) != now.get(*name) && !name.starts_with(READ_AGAIN);
        let changed: Vec<&str> = names.filter(differs).map(String::as_str).collect();
        if !changed.is_empty() {
            tracing::warn!(settings = changed.join(", "), "changed settings that count from the next start on");
        }
        if callers.is_empty() && !self.callers.is_anybody() {
            return Err(Trouble::bad("no caller is left, and to let in anybody takes a new start"));
        }
        let names: Vec<&str> = callers.iter().map(|caller| &*caller.name).collect();
        tracing::info!(callers = names.join(", "), "callers read again");
        self.callers.replace(callers);
        Ok(())
    }

    async fn tls(&self) -> Result<(), Trouble> {
        let Some(tls) = self.tls.clone() else { return Ok(()) };
        let read = spawn_blocking(move || tls.reload()).await.map_err(Trouble::passing)?;
        if read.map_err(Trouble::bad)? {
            tracing::info!("certificates read again");
        }
        Ok(())
    }

    async fn directory(&self, watch: &Watch) -> Result<(), Trouble> {
        let (source, hash_key) = (watch.source.clone(), self.directory.hash_key().clone());
        let read = spawn_blocking(move || open::read_source(&source, &hash_key)).await.map_err(Trouble::passing)?;
        if let Some(loaded) = read.map_err(Trouble::bad)? {
            open::import(&self.directory, loaded, self.clock.now()).await.map_err(Trouble::passing)?;
        }
        Ok(())
    }
}

/// Why something was not read again.
#[derive(Debug)]
enum Trouble {
    /// What stands there cannot be used, and will not be until it changes.
    Bad(String),
    /// It may be better soon.
    Passing(String),
}

impl Trouble {
    fn bad(why: impl Display) -> Self {
        Self::Bad(why.to_string())
    }

    fn passing(why: impl Display) -> Self {
        Self::Passing(why.to_string())
    }
}

impl Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Bad(why) | Self::Passing(why)) = self;
        f.write_str(why)
    }
}
