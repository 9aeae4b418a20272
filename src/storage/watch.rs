//! Watches whether the database does what a scan needs, so that the gauge, the readiness and the log say so before a scan finds out.
//!
//! While scans are recorded, they show it. While none is, a check writes and reads as a scan does, every few seconds. Once the database
//! does not answer, only these checks ask it, several times a second, until one succeeds.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::Any;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Error, query};
use tokio::time::{sleep, timeout};

use super::breaker::Kind;
use super::error::Symptom;
use super::{Database, DatabaseError, Desk, Engine, Pools, READ, RECORD, Work};
use crate::breaker::Subject;
use crate::digest::Digest;

/// How often the database is checked while no scan is recorded.
const EVERY: Duration = Duration::from_secs(5);
/// How soon after a check that failed the next one follows.
const AGAIN: Duration = Duration::from_millis(250);
/// How long anything may take that only the watch waits for, such as a new connection that tells why there is none.
const REASON: Duration = Duration::from_secs(1);

/// Writes as a scan does, commits, and leaves nothing behind.
pub(super) type WriteCheck = for<'c> fn(&'c mut AnyConnection) -> Work<'c, ()>;

impl Database {
    /// Watches the database until it is closed.
    pub(crate) fn watch(&self, write: WriteCheck) {
        let (database, opened) = (Arc::downgrade(&self.0), Arc::clone(&self.0.opened));
        tokio::spawn(async move {
            let (mut is_asked, mut failed, mut pause) = (true, 0_u64, EVERY);
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = opened.notified() => {}
                }
                let Some(inner) = database.upgrade() else { return };
                let database = Self(inner, Desk::Office);
                // No longer than it should take: a checkpoint that takes its time goes on by itself.
                let _ = timeout(REASON, database.truncate_long_log()).await;
                if is_asked && !database.is_asked() {
                    (is_asked, pause) = (false, AGAIN);
                    database.tell_why().await;
                    continue;
                }
                if is_asked && failed == 0 && database.0.breaker.has_written() {
                    continue;
                }
                match database.check(write, failed).await {
                    Ok(()) => {
                        database.0.breaker.close();
                        if !is_asked {
                            tracing::info!("the database answers again");
                        }
                        // Whether a late write was a moment's, the next check says.
                        pause = if database.0.breaker.is_doubtful() { AGAIN } else { EVERY };
                        (is_asked, failed) = (true, 0);
                    }
                    Err(DatabaseError::Sqlx(Error::PoolClosed)) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the check of the database failed");
                        (failed, pause) = (failed.saturating_add(1), AGAIN);
                    }
                }
            }
        });
    }

    /// Writes and reads as a scan does. While the database is asked, failures count as a scan's, and the `number`th as the `number`th
    /// scan's.
    async fn check(&self, write: WriteCheck, number: u64) -> Result<(), DatabaseError> {
        let Pools { reads, writes, .. } = &self.0.pools;
        let is_asked = self.is_asked();
        let mut is_late = false;
        let mut late = |times| {
            is_late = true;
            self.is_late(times);
        };
        let mut ignored = |_| ();
        let read = self.attempt(reads, READ, |connection| Box::pin(read_check(connection)), &mut ignored);
        let (written, read) = tokio::join!(self.attempt(writes, RECORD, write, &mut late), read);
        for (kind, result) in [(Kind::Write, &written), (Kind::Read, &read)] {
            let is_counted = match result {
                Ok(()) => !(kind == Kind::Write && is_late),
                Err(error) => is_asked && error.symptom(self.0.engine) != Symptom::Nothing,
            };
            if is_counted {
                self.diagnose(kind, &[subject(number)], result.as_ref().err());
            }
        }
        written.and(read)
    }

    /// Logs that the database does not answer. Why there is no connection, its pool does not say, and a new connection does.
    async fn tell_why(&self) {
        let mut error = self.0.breaker.error();
        if self.0.engine == Engine::Postgres {
            match timeout(REASON, self.0.options.connect()).await {
                Ok(Ok(connection)) => drop(connection.close().await),
                Ok(Err(reason)) => error = reason.to_string(),
                Err(_) => error = format!("a new connection is not ready within {REASON:?}: {error}"),
            }
        }
        tracing::warn!(error, "the database does not answer: scans get a 500 until it does");
    }
}

/// Whose failure that of a check is: three checks count as three scans.
fn subject(number: u64) -> Subject {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Digest::from_bytes(bytes).into()
}

async fn read_check(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    query::<Any>("SELECT 1 FROM store LIMIT 1").execute(connection).await?;
    Ok(())
}
