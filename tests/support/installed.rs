//! Servers as they are installed on this machine, and as whom they run.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where `initdb`, `postgres` and `psql` are together: Debian's folders, the newest version first, then the path.
pub(super) fn postgres_binaries() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            Some((entry.as_ref().ok()?.file_name().to_str()?.parse().ok()?, entry.ok()?.path().join("bin")))
        })
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = versions.into_iter().rev().map(|(_, folder)| folder).chain(std::env::split_paths(&path));
    let are_in = |folder: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    folders.into_iter().find(are_in)
}

/// Whom a server runs as that refuses root.
#[derive(Clone, Copy, Debug)]
pub(super) enum User {
    Oneself,
    Other { uid: u32, gid: u32 },
}

impl User {
    /// Oneself, who made this folder, or whoever stands in for root.
    pub(super) fn who_owns(folder: &Path) -> Self {
        if fs::metadata(folder).unwrap().uid() != 0 {
            return Self::Oneself;
        }
        let id = |what: &str, name: &str| {
            let output = Command::new("id").args([what, name]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let other = |name| Some(Self::Other { uid: id("-u", name)?, gid: id("-g", name)? });
        other("postgres").or_else(|| other("nobody")).expect("a user that is not root")
    }

    pub(super) fn is_given(self, paths: &[&Path]) {
        if let Self::Other { uid, gid } = self {
            paths.iter().for_each(|path| chown(path, Some(uid), Some(gid)).unwrap());
        }
    }

    /// A program, to be run as this user.
    pub(super) fn command(self, program: &Path) -> Command {
        let Self::Other { uid, gid } = self else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        command.arg("--").arg(program);
        command
    }
}
