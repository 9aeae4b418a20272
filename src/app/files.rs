//! Files that are read again when they change. They are looked at, by their metadata: that works on every file system, and wherever
//! files are swapped by links.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::task::spawn_blocking;

use crate::config::{Config, DirectorySource, Mode, Sources, effective};

/// What is read again on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Who may call.
    Callers,
    /// The certificate, and who makes those of clients.
    Tls,
    /// The directory file.
    Directory,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::Callers, Self::Tls, Self::Directory];

    /// The setting that it comes from.
    pub(super) fn setting(self) -> &'static str {
        match self {
            Self::Callers => "server.callers",
            Self::Tls => "tls",
            Self::Directory => "directory.file",
        }
    }
}

/// What a configuration was read from, as it was then. To be made right after reading it: what changes later is noticed.
#[derive(Debug)]
pub struct Watch {
    pub(super) mode: Mode,
    pub(super) sources: Sources,
    pub(super) source: DirectorySource,
    /// The settings that run, by their names.
    pub(super) settings: BTreeMap<String, String>,
    files: Vec<File>,
}

/// A file, and its state when it was last read and when it was last looked at.
#[derive(Debug)]
struct File {
    part: Part,
    path: PathBuf,
    read: Option<Stamp>,
    seen: Option<Stamp>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: (u64, u64),
}

impl Watch {
    /// What `config` was read from.
    #[must_use]
    pub fn new(mode: Mode, sources: &Sources, config: &Config) -> Self {
        let watch = |part, path: &Path| {
            let stamp = stamp(path);
            File { part, path: path.to_owned(), read: stamp, seen: stamp }
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

    /// Looks at every file, and tells the parts of which one has changed and is done changing: it looks as it did at the look before.
    pub(super) async fn changed(&mut self) -> Vec<Part> {
        let before: Vec<Option<Stamp>> = self.files.iter().map(|file| file.seen).collect();
        self.look().await;
        let rests = |(file, before): &(&File, Option<Stamp>)| file.seen == *before && file.seen != file.read;
        let mut parts: Vec<Part> = self.files.iter().zip(before).filter(rests).map(|(file, _)| file.part).collect();
        parts.dedup();
        parts
    }

    /// Looks at every file, elsewhere: a network's file system may take its time.
    pub(super) async fn look(&mut self) {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let stamps = spawn_blocking(move || paths.iter().map(|path| stamp(path)).collect::<Vec<_>>()).await;
        for (file, stamp) in self.files.iter_mut().zip(stamps.unwrap_or_default()) {
            file.seen = stamp;
        }
    }

    /// The files of this part are read, as they looked last.
    pub(super) fn is_read(&mut self, part: Part) {
        self.files.iter_mut().filter(|file| file.part == part).for_each(|file| file.read = file.seen);
    }
}

/// Every setting by its name; none if they cannot be read.
pub(super) fn settings(mode: Mode, sources: &Sources) -> BTreeMap<String, String> {
    let settings = effective(mode, sources).unwrap_or_default();
    settings.into_iter().map(|setting| (setting.name, setting.value)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let modified = metadata.modified().ok();
    Some(Stamp { modified, length: metadata.len(), inode: (metadata.dev(), metadata.ino()) })
}
