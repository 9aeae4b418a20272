//! Reloads callers, certificates and the directory file while the connector runs: when one of their files changes, and
//! on request (SIGHUP). If a file cannot be used, the previous version stays in effect, and the log says why.
//!
//! Changes are detected by comparing the files' metadata once a second. Unlike file system events, this works on every
//! file system, and where files are replaced by changing a symbolic link.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use thiserror::Error;
use tokio::task::spawn_blocking;

use super::build::{import, read_source};
use super::maintenance::every;
use crate::callers::Callers;
use crate::clock::Clock;
use crate::config::{Config, DirectorySource, Mode, Sources, effective};
use crate::directory::Directory;
use crate::observe::metrics::Metrics;
use crate::tls::Tls;

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
        let mut ticks = every(CHECK_INTERVAL);
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
        let read = spawn_blocking(move || read_source(&source, &hash_key)).await;
        if let Some(loaded) = read.map_err(ReloadError::temporary)?.map_err(ReloadError::invalid)? {
            import(&self.directory, loaded, self.clock.now()).await.map_err(ReloadError::temporary)?;
        }
        Ok(())
    }
}

#[derive(Debug, Error)]
enum ReloadError {
    /// A file cannot be used until it changes.
    #[error("{0}")]
    Invalid(String),
    /// The next attempt may succeed.
    #[error("{0}")]
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

/// A part of the configuration that can be reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Callers,
    /// The server certificate, and the CA certificates of clients.
    Tls,
    Directory,
}

impl Part {
    const ALL: [Self; 3] = [Self::Callers, Self::Tls, Self::Directory];

    fn setting(self) -> &'static str {
        match self {
            Self::Callers => "server.callers",
            Self::Tls => "tls",
            Self::Directory => "directory.file",
        }
    }
}

/// The files of a configuration and their state. Create it directly after the configuration is read, so that no change
/// is missed.
#[derive(Debug)]
pub struct WatchedFiles {
    mode: Mode,
    sources: Sources,
    source: DirectorySource,
    /// The settings in use, by their names.
    settings: BTreeMap<String, String>,
    files: Vec<File>,
}

/// A file, and its state when it was last read and when it was last checked.
#[derive(Debug)]
struct File {
    part: Part,
    path: PathBuf,
    read: Option<FileState>,
    checked: Option<FileState>,
}

/// The metadata that changes when a file is replaced or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    modified: Option<SystemTime>,
    length: u64,
    inode: (u64, u64),
}

impl WatchedFiles {
    /// The files of `config`.
    pub fn new(mode: Mode, sources: &Sources, config: &Config) -> Self {
        let watch = |part, path: &Path| {
            let state = state(path);
            File { part, path: path.to_owned(), read: state, checked: state }
        };
        let mut files: Vec<File> = sources.file.iter().map(|path| watch(Part::Callers, path)).collect();
        if let Some(tls) = &config.tls {
            let authority = tls.client_authority.as_ref();
            files.extend([&tls.certificate, &tls.key].into_iter().chain(authority).map(|path| watch(Part::Tls, path)));
        }
        if let DirectorySource::File { path, .. } = &config.directory {
            files.push(watch(Part::Directory, path));
        }
        let settings = settings(mode, sources);
        Self { mode, sources: sources.clone(), source: config.directory.clone(), settings, files }
    }

    /// Checks every file. Returns the parts with a changed file, once the file is complete: its state must be the same
    /// in two checks in a row.
    async fn changed(&mut self) -> Vec<Part> {
        let before: Vec<Option<FileState>> = self.files.iter().map(|file| file.checked).collect();
        self.check().await;
        let is_complete =
            |(file, before): &(&File, Option<FileState>)| file.checked == *before && file.checked != file.read;
        let changed = self.files.iter().zip(before).filter(is_complete);
        let mut parts: Vec<Part> = changed.map(|(file, _)| file.part).collect();
        parts.dedup();
        parts
    }

    /// Checks every file, on a blocking thread, because a network file system may be slow.
    async fn check(&mut self) {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let states = spawn_blocking(move || paths.iter().map(|path| state(path)).collect::<Vec<_>>()).await;
        for (file, state) in self.files.iter_mut().zip(states.unwrap_or_default()) {
            file.checked = state;
        }
    }

    /// Marks the files of a part as read, in the state of the last check.
    fn mark_read(&mut self, part: Part) {
        self.files.iter_mut().filter(|file| file.part == part).for_each(|file| file.read = file.checked);
    }
}

/// Every setting by its name; empty if the settings cannot be read.
fn settings(mode: Mode, sources: &Sources) -> BTreeMap<String, String> {
    let settings = effective(mode, sources).unwrap_or_default();
    settings.into_iter().map(|setting| (setting.name, setting.value)).collect()
}

fn state(path: &Path) -> Option<FileState> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok();
    Some(FileState { modified, length: metadata.len(), inode: (metadata.dev(), metadata.ino()) })
}
