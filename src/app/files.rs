//! Detects changes of the files that can be reloaded.
//!
//! It compares their metadata once a second. Unlike file system events, this works on every file system, and where
//! files are replaced by changing a symbolic link.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::task::spawn_blocking;

use crate::config::{Config, DirectorySource, Mode, Sources, effective};

/// A part of the configuration that can be reloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The callers.
    Callers,
    /// The server certificate, and the CA certificates of clients.
    Tls,
    /// The directory file.
    Directory,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::Callers, Self::Tls, Self::Directory];

    /// Its setting.
    pub(super) fn setting(self) -> &'static str {
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
    pub(super) mode: Mode,
    pub(super) sources: Sources,
    pub(super) source: DirectorySource,
    /// The settings in use, by their names.
    pub(super) settings: BTreeMap<String, String>,
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
    pub(super) async fn changed(&mut self) -> Vec<Part> {
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
    pub(super) async fn check(&mut self) {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let states = spawn_blocking(move || paths.iter().map(|path| state(path)).collect::<Vec<_>>()).await;
        for (file, state) in self.files.iter_mut().zip(states.unwrap_or_default()) {
            file.checked = state;
        }
    }

    /// Marks the files of a part as read, in the state of the last check.
    pub(super) fn mark_read(&mut self, part: Part) {
        self.files.iter_mut().filter(|file| file.part == part).for_each(|file| file.read = file.checked);
    }
}

/// Every setting by its name; empty if the settings cannot be read.
pub(super) fn settings(mode: Mode, sources: &Sources) -> BTreeMap<String, String> {
    let settings = effective(mode, sources).unwrap_or_default();
    settings.into_iter().map(|setting| (setting.name, setting.value)).collect()
}

fn state(path: &Path) -> Option<FileState> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok();
    Some(FileState { modified, length: metadata.len(), inode: (metadata.dev(), metadata.ino()) })
}
