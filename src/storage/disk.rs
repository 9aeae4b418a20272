//! The free space on the file system of a SQLite file, and the size of the file's write-ahead log.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Database;

/// How long [`Database::measure_disk`] may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The disk usage of a SQLite file, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// The free space that is available to an unprivileged process.
    pub(super) free: u64,
    /// The size of the write-ahead log.
    pub(super) log: u64,
}

impl Database {
    /// Measures the disk usage for the metrics. If that takes too long, they show none.
    pub async fn measure_disk(&self) {
        let database = self.clone();
        // With a time-out: asking for the free space blocks while the disk does not respond.
        let disk = timeout(TIMEOUT, spawn_blocking(move || database.disk())).await;
        *self.0.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk.ok().and_then(Result::ok).flatten();
    }

    /// The disk usage when it was last measured.
    pub(super) fn measured_disk(&self) -> Option<Disk> {
        *self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the disk usage, which may block. `None` if the database is not a file, or the system does not report the
    /// free space.
    pub(super) fn disk(&self) -> Option<Disk> {
        let path = self.0.path.as_deref()?;
        let system = rustix::fs::statvfs(path).ok()?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = std::fs::metadata(log).map_or(0, |log| log.len());
        Some(Disk { free: system.f_bavail.saturating_mul(system.f_frsize), log })
    }
}
