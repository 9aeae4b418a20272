//! The ledger in a SQLite file: what was answered is on the disk before the answer leaves.
//!
//! One task writes. It takes whatever waits, commits it as one batch with one `fsync`, and only then tells those who wait; a
//! row that fails in a batch fails alone. Readers have connections of their own and see what is committed.

mod rows;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use super::{LedgerError, Limits, Lookup, NewRecord, Page, Recorded, SessionId};
use crate::digest::Fingerprint;
use crate::domain::ids::EventId;
use crate::storage::SqliteDatabase;
use writer::Job;

/// How many jobs may wait for the writer. More than it can do within a request's deadline.
const QUEUE: usize = 4096;

/// A ledger in a file. Dropping it lets the writer finish what waits.
#[derive(Debug)]
pub struct SqliteLedger {
    limits: Limits,
    /// Held open, and locked against others, for as long as the ledger lives.
    database: SqliteDatabase,
    jobs: mpsc::Sender<Job>,
    records: Arc<AtomicUsize>,
}

impl SqliteLedger {
    /// Opens the ledger in a database, and starts its writer.
    ///
    /// # Errors
    /// When the database cannot be read or written.
    pub async fn open(database: SqliteDatabase, limits: Limits) -> Result<Self, LedgerError> {
        let records = Arc::new(AtomicUsize::new(rows::count(database.readers()).await?));
        let connection = database.writer().await?;
        let (jobs, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(writer::run(connection, waiting, limits, Arc::clone(&records)));
        Ok(Self { limits, database, jobs, records })
    }

    pub(super) async fn find(
        &self,
        event: EventId,
        fingerprint: &Fingerprint,
        now: DateTime<Utc>,
    ) -> Result<Lookup, LedgerError> {
        let readers = self.database.readers().clone();
        // A task of its own: a request that runs out of time must not leave a statement half read on a shared connection.
        let read = tokio::spawn(async move { rows::records(&mut *readers.acquire().await?, event).await });
        let records = read.await.map_err(|error| LedgerError(error.to_string()))??;
        Ok(records.find(fingerprint, now, self.limits.retention))
    }

    pub(super) async fn record(&self, entry: NewRecord, now: DateTime<Utc>) -> Result<Recorded, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Record { entry: Box::new(entry), now, reply }).await?;
        answer.await.map_err(|_| gone())?
    }

    pub(super) async fn sessions(
        &self,
        before: Option<SessionId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Page, LedgerError> {
        rows::sessions(self.database.readers(), before, limit, now, self.limits.session_max_age).await
    }

    /// Lets go of some of what is past its time, and says whether there may be more.
    pub(super) async fn sweep_some(&self, now: DateTime<Utc>) -> Result<bool, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Sweep { now, reply }).await?;
        answer.await.map_err(|_| gone())?
    }

    /// Writes what waits, and leaves the database as one whole file.
    pub(super) async fn close(&self) -> Result<(), LedgerError> {
        // First, since only the last connection puts the file together, and a reader could not.
        self.database.readers().close().await;
        let (reply, answer) = oneshot::channel();
        self.ask(Job::Close { reply }).await?;
        answer.await.map_err(|_| gone())?
    }

    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    async fn ask(&self, job: Job) -> Result<(), LedgerError> {
        self.jobs.send(job).await.map_err(|_| gone())
    }
}

fn gone() -> LedgerError {
    LedgerError("it was not committed".to_owned())
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        Self(error.to_string())
    }
}
