//! Probes the database's health, so that the gauge, `/readyz` and the log report an outage before it affects a scan.
//!
//! While scans are recorded, their results show the health. While none are, a probe writes and reads as a scan does,
//! every few seconds. While the breaker is open, only the probe queries the database, several times a second, until one
//! probe succeeds.

use std::sync::Arc;
use std::time::Duration;

use sqlx::any::Any;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Error, query};
use tokio::time::{sleep, timeout};

use super::breaker::Kind;
use super::error::Symptom;
use super::{Database, DatabaseError, Engine, Pools, READ_TIMEOUT, RECORD_TIMEOUT, Work, Workload};
use crate::breaker::Subject;
use crate::digest::Digest;

/// How often the database is probed while no scan is recorded.
const INTERVAL: Duration = Duration::from_secs(5);
/// The pause after a failed probe.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// The time limit of work that only the probe waits for, such as a new connection that shows why there is none.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes as a scan does, commits, and leaves no rows behind.
pub(super) type WriteProbe = for<'c> fn(&'c mut AnyConnection) -> Work<'c, ()>;

impl Database {
    /// Starts the task that probes the database until it is closed.
    pub(crate) fn start_probe(&self, write: WriteProbe) {
        let (database, opened) = (Arc::downgrade(&self.0), Arc::clone(&self.0.opened));
        tokio::spawn(async move {
            let (mut accepts_queries, mut failed, mut pause) = (true, 0_u64, INTERVAL);
            loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = opened.notified() => {}
                }
                let Some(inner) = database.upgrade() else { return };
                let database = Self(inner, Workload::Admin);
                // A checkpoint that takes longer than the time limit continues in its own task.
                let _ = timeout(PROBE_TIMEOUT, database.truncate_long_log()).await;
                if accepts_queries && !database.accepts_queries() {
                    (accepts_queries, pause) = (false, RETRY_INTERVAL);
                    database.log_outage().await;
                    continue;
                }
                if accepts_queries && failed == 0 && database.0.breaker.has_written() {
                    continue;
                }
                match database.probe(write, failed).await {
                    Ok(()) => {
                        database.0.breaker.close();
                        if !accepts_queries {
                            tracing::info!("the database answers again");
                        }
                        // After a late write, the next probe follows soon, to see whether writes are still late.
                        pause = if database.0.breaker.has_late_writes() { RETRY_INTERVAL } else { INTERVAL };
                        (accepts_queries, failed) = (true, 0);
                    }
                    Err(DatabaseError::Sqlx(Error::PoolClosed)) => return,
                    Err(error) => {
                        tracing::debug!(%error, "the probe of the database failed");
                        (failed, pause) = (failed.saturating_add(1), RETRY_INTERVAL);
                    }
                }
            }
        });
    }

    /// Writes and reads as a scan does. While the breaker is closed, a failure counts like a scan's, and each `number`
    /// as another scan.
    async fn probe(&self, write: WriteProbe, number: u64) -> Result<(), DatabaseError> {
        let Pools { reads, writes, .. } = &self.0.pools;
        let accepts_queries = self.accepts_queries();
        let mut is_late = false;
        let mut late = |times| {
            is_late = true;
            self.report_late_write(times);
        };
        let mut ignored = |_| ();
        let read = self.attempt(reads, READ_TIMEOUT, |connection| Box::pin(read_probe(connection)), &mut ignored);
        let (written, read) = tokio::join!(self.attempt(writes, RECORD_TIMEOUT, write, &mut late), read);
        for (kind, result) in [(Kind::Write, &written), (Kind::Read, &read)] {
            let is_counted = match result {
                Ok(()) => !(kind == Kind::Write && is_late),
                Err(error) => accepts_queries && error.symptom(self.0.engine) != Symptom::None,
            };
            if is_counted {
                self.diagnose(kind, &[subject(number)], result.as_ref().err());
            }
        }
        written.and(read)
    }

    /// Logs that the database does not answer. A pool does not report why it has no connection, so this opens one to
    /// find out.
    async fn log_outage(&self) {
        let mut error = self.0.breaker.error();
        if self.0.engine == Engine::Postgres {
            match timeout(PROBE_TIMEOUT, self.0.options.connect()).await {
                Ok(Ok(connection)) => drop(connection.close().await),
                Ok(Err(reason)) => error = reason.to_string(),
                Err(_) => error = format!("a new connection is not ready within {PROBE_TIMEOUT:?}: {error}"),
            }
        }
        tracing::warn!(error, "the database does not answer: scans get a 500 until it does");
    }
}

/// The subject of a probe's failure: each number is another subject, so that three failed probes open the breaker.
fn subject(number: u64) -> Subject {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Digest::from_bytes(bytes).into()
}

async fn read_probe(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    query::<Any>("SELECT 1 FROM store LIMIT 1").execute(connection).await?;
    Ok(())
}
