//! The metrics of the database.

use prometheus_client::registry::Registry;

use super::Database;
use crate::observe::metrics::readings;

/// Adds the metrics of the database, if there is one, to a registry.
pub(crate) fn register(database: Option<&Database>, registry: &mut Registry) {
    readings! { registry, database = &database.cloned();
        /// 1 while the database answers, or none is configured; 0 while it does not, so that scans get a 500.
        gauge database_up = database.as_ref().is_none_or(Database::is_up);
        /// 1 while the disk of the SQLite file takes longer for a commit than a scan may wait, so that scans get a 500
        /// and only their retries get the decision; else 0.
        gauge database_slow = database.as_ref().is_some_and(Database::is_slow);
        /// Requests to the database that failed or timed out. Growth means that the database is overloaded or about to
        /// fail.
        counter database_failures = database.as_ref().map_or(0, |database| database.0.breaker.failures());
        // Absent without a file: a 0 would look like a full disk.
        /// Free bytes of the file system that holds the SQLite file. When it is full, no scan can be recorded.
        gauge database_free_bytes = database.as_ref().and_then(Database::measured_disk).map(|disk| disk.free);
        /// Bytes of the write-ahead log of the SQLite file. A log that keeps growing fills the disk.
        gauge database_log_bytes = database.as_ref().and_then(Database::measured_disk).map(|disk| disk.log);
    }
}
