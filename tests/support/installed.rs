//! Database servers installed on this machine, and the user that they run as.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder with `initdb`, `postgres` and `psql`: Debian's folders, newest version first, then PATH.
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

/// The user that a server runs as. PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug)]
pub(super) enum User {
    Current,
    Other { uid: u32, gid: u32 },
}

impl User {
    /// The current user, who owns this folder; if that is root, the user `postgres` or an unprivileged one.
    pub(super) fn for_folder(folder: &Path) -> Self {
        if fs::metadata(folder).unwrap().uid() != 0 {
            return Self::Current;
        }
        let id = |what: &str, name: &str| {
            let output = Command::new("id").args([what, name]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let find_user = |name| Some(Self::Other { uid: id("-u", name)?, gid: id("-g", name)? });
        find_user("postgres").or_else(|| find_user("nobody")).expect("an unprivileged user exists")
    }

    /// Makes this user the owner of these paths.
    pub(super) fn take_ownership(self, paths: &[&Path]) {
        if let Self::Other { uid, gid } = self {
            paths.iter().for_each(|path| chown(path, Some(uid), Some(gid)).unwrap());
        }
    }

    /// A command that runs a program as this user.
    pub(super) fn command(self, program: &Path) -> Command {
        let Self::Other { uid, gid } = self else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
        command.arg("--").arg(program);
        command
    }
}
