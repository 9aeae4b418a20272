//! The write-ahead log of a SQLite file, and what erased rows leave behind in either.
//!
//! SQLite overwrites deleted content with zeros (`secure_delete`), but in the file: the log keeps the pages as they were until it is
//! written over or truncated. And where a page was divided before, a copy of a row may be left in room that is not in use.

use std::time::Duration;

use sqlx::any::Any;
use sqlx::{AnyConnection, Executor as _, Row as _, query};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::{Database, DatabaseError, Engine, OFFICE};

/// A longer log is truncated when no reader needs it any more. Twice as long as one gets that no reader holds.
const LONG: u64 = 32 << 20;
/// The longest file that is rewritten as a whole: that takes a fraction of the time that a record may wait.
const SHORT: u64 = 16 << 20;
/// How long readers are waited for until the log can be truncated.
const READERS_LEAVE: Duration = Duration::from_secs(10);

impl Database {
    /// Removes what was deleted from a SQLite file and its log for good. PostgreSQL does that by its own vacuum.
    ///
    /// # Errors
    /// When another process reads the file all the while.
    pub(crate) async fn purge(&self) -> Result<(), DatabaseError> {
        let (Engine::Sqlite, Some(path)) = (self.0.engine, self.0.path.clone()) else { return Ok(()) };
        let length = spawn_blocking(move || path.metadata().map_or(u64::MAX, |file| file.len())).await;
        if length.is_ok_and(|length| length <= SHORT) {
            let turn = self.0.turn.clone().acquire_owned().await;
            let vacuum = self.run(&self.0.pools.office_writes, OFFICE, None, |connection| {
                Box::pin(async move {
                    let _turn = turn; // also when the caller has gone
                    Ok(connection.execute("VACUUM").await.map(drop)?)
                })
            });
            vacuum.await?;
        }
        let deadline = Instant::now().checked_add(READERS_LEAVE);
        while !self.truncate_log().await? {
            if deadline.is_none_or(|deadline| Instant::now() > deadline) {
                return Err(DatabaseError::HeldBack);
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// Truncates the log of a SQLite file if it is longer than usual and no reader needs it.
    pub(crate) async fn truncate_long_log(&self) {
        let database = self.clone();
        let disk = spawn_blocking(move || database.disk()).await.ok().flatten();
        if disk.is_some_and(|disk| disk.log > LONG)
            && let Err(error) = self.truncate_log().await
        {
            tracing::debug!(%error, "the log of the SQLite file is not truncated");
        }
    }

    /// Whether no reader needed the log, so that it is truncated.
    async fn truncate_log(&self) -> Result<bool, DatabaseError> {
        self.run(&self.0.pools.office_reads, OFFICE, None, |connection| {
            Box::pin(async move {
                // Beside the writer, so that little is left to do while no record can be written.
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

/// Whether it could be done as asked.
async fn checkpoint(connection: &mut AnyConnection, statement: &'static str) -> Result<bool, DatabaseError> {
    let row = query::<Any>(statement).fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(0)? == 0)
}
