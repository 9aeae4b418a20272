//! Removes erased data from a SQLite file and its write-ahead log, and keeps the log short.
//!
//! SQLite overwrites deleted content with zeros (`secure_delete`), but only in the file: the log keeps older versions
//! of the pages until it is overwritten or truncated. Unused space of a page that was split may also still contain a
//! copy of a row.

use std::time::Duration;

use sqlx::any::Any;
use sqlx::{AnyConnection, Executor as _, Row as _, query};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{ADMIN_TIMEOUT, Database, DatabaseError, Engine};

/// A longer log is truncated as soon as no reader needs it. Twice the size that a log reaches without long-running
/// readers.
const LONG_LOG: u64 = 32 << 20;
/// The largest file that is rewritten as a whole, which takes a fraction of the time that a record may wait.
const SMALL_FILE: u64 = 16 << 20;
/// How long to wait for readers before truncating the log fails.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

impl Database {
    /// Removes deleted data permanently from a SQLite file and its log. On PostgreSQL, the server's vacuum does this.
    ///
    /// # Errors
    /// When another process keeps reading the file for longer than 10 s.
    pub(crate) async fn purge(&self) -> Result<(), DatabaseError> {
        let (Engine::Sqlite, Some(path)) = (self.0.engine, self.0.path.clone()) else { return Ok(()) };
        let length = spawn_blocking(move || path.metadata().map_or(u64::MAX, |file| file.len())).await;
        if length.is_ok_and(|length| length <= SMALL_FILE) {
            let permit = self.0.write_permit.clone().acquire_owned().await;
            let vacuum = self.run(&self.0.pools.admin_writes, ADMIN_TIMEOUT, None, |connection| {
                Box::pin(async move {
                    let _permit = permit; // held until the work ends, even if the caller has disconnected
                    Ok(connection.execute("VACUUM").await.map(drop)?)
                })
            });
            vacuum.await?;
        }
        let deadline = Instant::now().checked_add(READER_TIMEOUT);
        while !self.truncate_log().await? {
            if deadline.is_none_or(|deadline| Instant::now() > deadline) {
                return Err(DatabaseError::LogInUse);
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// Truncates the log of a SQLite file if it is unusually long and no reader needs it.
    pub(crate) async fn truncate_long_log(&self) {
        let database = self.clone();
        let disk = spawn_blocking(move || database.disk()).await.ok().flatten();
        if disk.is_some_and(|disk| disk.log > LONG_LOG)
            && let Err(error) = self.truncate_log().await
        {
            tracing::debug!(%error, "cannot truncate the log of the SQLite file");
        }
    }

    /// Truncates the log unless a reader needs it. Returns whether it was truncated.
    async fn truncate_log(&self) -> Result<bool, DatabaseError> {
        self.run(&self.0.pools.admin_reads, ADMIN_TIMEOUT, None, |connection| {
            Box::pin(async move {
                // The passive checkpoint runs beside the writer, so that the second one, which blocks records, is
                // short.
                checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await?;
                connection.execute("PRAGMA busy_timeout = 50").await?;
                let is_done = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)").await;
                connection.execute("PRAGMA busy_timeout = 500").await?;
                is_done
            })
        })
        .await
    }
}

/// Runs a checkpoint. Returns whether it completed.
async fn checkpoint(connection: &mut AnyConnection, statement: &'static str) -> Result<bool, DatabaseError> {
    let row = query::<Any>(statement).fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(0)? == 0)
}
