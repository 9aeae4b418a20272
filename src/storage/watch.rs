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
/// How long a new connection may take that is opened to find out why there is none.
const REASON: Duration = Duration::from_secs(1);

/// Writes as a scan does, commits, and leaves nothing behind.
pub(super) type WriteCheck = for<'c> fn(&'c mut AnyConnection) -> Work<'c, ()>;

impl Database {
    /// Watches the database until it is closed.
    pub(crate) fn watch(&self, write: WriteCheck) {
        let (database, opened) = (Arc::downgrade(&self.0), Arc::clone(&self.0.opened));
        tokio::spawn(async move {
            let (mut is_up, mut failed) = (true, 0_u64);
            loop {
                tokio::select! {
                    () = sleep(if is_up && failed == 0 { EVERY } else { AGAIN }) => {}
                    () = opened.notified() => {}
                }
                let Some(inner) = database.upgrade() else { return };
                let database = Self(inner, Desk::Office);
                if is_up && database.is_up() && failed == 0 && database.0.breaker.has_written() {
                    continue;
                }
                if is_up && !database.is_up() {
                    is_up = false;
                    database.tell_why().await;
                    continue;
                }
                match database.check(write).await {
                    Ok(()) => {
                        database.0.breaker.close();
                        if !is_up {
                            tracing::info!("the database answers again");
                        }
                        (is_up, failed) = (true, 0);
                    }
                    Err((_, DatabaseError::Sqlx(Error::PoolClosed))) => return,
                    Err((kind, error)) if is_up && error.symptom(database.engine()) != Symptom::Nothing => {
                        failed = failed.saturating_add(1);
                        database.diagnose(kind, &[subject(failed)], Some(&error));
                    }
                    Err((_, error)) => tracing::debug!(%error, "the check of the database failed"),
                }
            }
        });
    }

    /// Writes and reads as a scan does.
    async fn check(&self, write: WriteCheck) -> Result<(), (Kind, DatabaseError)> {
        let Pools { reads, writes, .. } = &self.0.pools;
        let read = self.attempt(reads, READ, |connection| Box::pin(read_check(connection)));
        let (written, read) = tokio::join!(self.attempt(writes, RECORD, write), read);
        written.map_err(|error| (Kind::Write, error))?;
        read.map_err(|error| (Kind::Read, error))
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
