//! The ledger in a database: what was answered is safe before the answer leaves.
//!
//! One task writes. It takes whatever waits, has it committed as one batch, and only then tells those who wait. In front stand
//! the records that this process has seen.

mod check;
mod lists;
mod postgres;
mod rows;
mod sqlite;
mod upkeep;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::cache::RecordCache;
use super::{DecisionCursor, DecisionPage, LedgerError, Limits, Lookup, NewRecord, Page, Recorded, SessionId};
use crate::breaker::Subject;
use crate::digest::Fingerprint;
use crate::domain::ids::{EventId, VisitorId};
use crate::storage::{Database, DatabaseError, Engine};
use upkeep::Swept;
use writer::{Job, Waiting};

/// How many jobs may wait for the writer: one batch, so that what is accepted waits for the one under way and its own, and no longer.
const QUEUE: usize = writer::BATCH;
/// How many rows one transaction lets go of or renames at most, so that no scan waits long behind it.
const BATCH: usize = 100;
/// Upper bounds of the buckets in which it is counted how many records are committed together.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// How long whoever reads the metrics may wait for a count.
const COUNT: Duration = Duration::from_secs(1);
/// How many rows that name a visitor are looked for at once: finding them takes a look at all rows.
const FOUND_AT_ONCE: usize = 10_000;

/// A ledger in a database. Dropping it lets the writer finish what waits.
#[derive(Debug)]
pub struct SqlLedger {
    limits: Limits,
    database: Database,
    jobs: mpsc::Sender<Job>,
    cache: RecordCache,
    records: Arc<AtomicUsize>,
    batch_sizes: Histogram,
}

impl SqlLedger {
    /// Opens the ledger in a database, and starts its writer.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open(database: Database, limits: Limits) -> Result<Self, LedgerError> {
        let engine = database.engine();
        let count = database.look_up(move |connection| Box::pin(upkeep::count(connection, engine))).await?;
        let records = Arc::new(AtomicUsize::new(count));
        let (jobs, waiting) = mpsc::channel(QUEUE);
        let batch_sizes = Histogram::new(BATCH_BUCKETS);
        tokio::spawn(writer::run(database.clone(), waiting, limits, Arc::clone(&records), batch_sizes.clone()));
        database.watch(match engine {
            Engine::Sqlite => check::sqlite,
            Engine::Postgres => check::postgres,
        });
        Ok(Self { limits, database, jobs, cache: RecordCache::new(limits.cache), records, batch_sizes })
    }

    /// What this process has seen.
    pub(super) fn recall(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Lookup {
        let record = self.cache.find(event, fingerprint, now, self.limits.retention);
        record.map_or(Lookup::Unknown, Lookup::Recorded)
    }

    pub(super) async fn find(
        &self,
        event: EventId,
        fingerprint: &Fingerprint,
        now: DateTime<Utc>,
    ) -> Result<Lookup, LedgerError> {
        let records = self
            .database
            .read(Subject::from(*fingerprint), move |connection| Box::pin(rows::records(connection, event)))
            .await?;
        let found = records.find(fingerprint, now, self.limits.retention);
        if let Lookup::Recorded(record) = &found {
            self.cache.keep(event, *fingerprint, record);
        }
        Ok(found)
    }

    pub(super) async fn record(
        &self,
        entry: NewRecord,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Recorded, LedgerError> {
        if !self.database.is_asked() {
            return Err(DatabaseError::Down.into()); // at once: it would only queue
        }
        let (event, fingerprint) = (entry.event.id, entry.fingerprint);
        let (reply, answer) = oneshot::channel();
        let job = Job::Record { waiting: Waiting { entry: Box::new(entry), now, deadline }, reply };
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Ok(Recorded::Busy),
            Err(TrySendError::Closed(_)) => return Err(gone()),
        }
        let recorded = answer.await.map_err(|_| gone())??;
        if let Recorded::New(record) | Recorded::Replay(record) = &recorded {
            self.cache.keep(event, fingerprint, record);
        }
        Ok(recorded)
    }

    pub(super) async fn sessions(
        &self,
        before: Option<SessionId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Page, LedgerError> {
        let max_age = self.limits.session_max_age;
        let page =
            self.database.look_up(move |connection| Box::pin(lists::sessions(connection, before, limit, now, max_age)));
        Ok(page.await?)
    }

    pub(super) async fn decisions(
        &self,
        before: Option<DecisionCursor>,
        limit: usize,
    ) -> Result<DecisionPage, LedgerError> {
        Ok(self.database.look_up(move |connection| Box::pin(lists::decisions(connection, before, limit))).await?)
    }

    /// Puts a pseudonym in a visitor's place, in small batches.
    pub(super) async fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) -> Result<(), LedgerError> {
        loop {
            let of = visitor.clone();
            let found =
                self.database.look_up(move |connection| Box::pin(upkeep::find_visitor(connection, of, FOUND_AT_ONCE)));
            let found = found.await?;
            if found.is_empty() {
                self.forget();
                return Ok(());
            }
            for some in found.into_batches(BATCH) {
                let to = pseudonym.clone();
                let rename =
                    self.database.transaction(move |connection| Box::pin(upkeep::rename_visitor(connection, some, to)));
                rename.await?;
            }
        }
    }

    /// Removes what was erased from the database's files.
    pub(super) async fn purge(&self) -> Result<(), LedgerError> {
        Ok(self.database.purge().await?)
    }

    /// Forgets what it remembers of the database.
    pub(super) fn forget(&self) {
        self.cache.clear();
    }

    /// Lets go of some of what is past its time, and says whether there may be more.
    pub(super) async fn sweep_some(&self, now: DateTime<Utc>) -> Result<bool, LedgerError> {
        let (limits, engine) = (self.limits, self.database.engine());
        let swept = self
            .database
            .transaction(move |connection| Box::pin(upkeep::sweep(connection, engine, limits, now, BATCH)));
        let Swept { decisions, sessions, codes } = swept.await?;
        self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(decisions))).ok();
        Ok([decisions, sessions, codes].contains(&BATCH))
    }

    /// Writes what waits, and closes the database.
    pub(super) async fn close(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Close { reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?;
        self.database.close().await;
        Ok(())
    }

    /// Counts the records, where others write them as well; when that cannot be done soon, the last count stands.
    pub(super) async fn count(&self) {
        if self.database.engine() == Engine::Postgres {
            let count = self.database.look_up(|connection| Box::pin(upkeep::count(connection, Engine::Postgres)));
            if let Ok(Ok(count)) = timeout(COUNT, count).await {
                self.records.store(count, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn is_slow(&self) -> bool {
        self.database.is_slow()
    }

    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn cached(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn batch_sizes(&self) -> &Histogram {
        &self.batch_sizes
    }
}

fn gone() -> LedgerError {
    LedgerError::Unavailable("it was not committed".to_owned())
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy => Self::Busy,
            error => Self::Unavailable(error.to_string()),
        }
    }
}
