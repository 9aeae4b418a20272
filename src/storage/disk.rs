//! How much room the file system of a SQLite file has, and how long its write-ahead log is.

use super::Database;

/// Of a SQLite file, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// What an unprivileged process may still take of its file system.
    pub free: u64,
    /// The write-ahead log.
    pub log: u64,
}

impl Database {
    /// Asks the system, which may block. `None` where the database is no file, or the system does not say.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        let path = self.0.path.as_deref()?;
        let system = rustix::fs::statvfs(path).ok()?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = std::fs::metadata(log).map_or(0, |log| log.len());
        Some(Disk { free: system.f_bavail.saturating_mul(system.f_frsize), log })
    }
}
