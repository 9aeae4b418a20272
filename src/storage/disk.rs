//! The free space on the file system of a SQLite file, and the size of the file's write-ahead log.

use super::Database;

/// The disk usage of a SQLite file, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// The free space that is available to an unprivileged process.
    pub free: u64,
    /// The size of the write-ahead log.
    pub log: u64,
}

impl Database {
    /// Reads the disk usage, which may block. `None` if the database is not a file, or the system does not report the
    /// free space.
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
