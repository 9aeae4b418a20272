//! The ledger in a database: a record is committed before its answer is sent.
//!
//! One thread (SQLite) or task (PostgreSQL) writes. It takes all pending decisions, commits them as one batch, and only
//! then answers the callers. A cache holds the records that this process has seen.

mod lists;
mod postgres;
mod probe;
mod rows;
mod sqlite;
mod upkeep;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::cache::RecordCache;
use super::rule;
use super::{DecisionEntry, LedgerError, Limits, Lookup, NewRecord, Page, RecordId, Recorded, Session};
use crate::breaker::Subject;
use crate::digest::Fingerprint;
use crate::domain::ids::{EventId, VisitorId};
use crate::observe::metrics::metrics;
use crate::storage::{Database, DatabaseError, Engine};
use sqlite::Recorder;
use upkeep::Swept;
use writer::{Job, PendingRecord, Target};

/// The number of jobs that may wait for the writer: one batch, so that an accepted job waits for at most the current
/// batch and its own.
const QUEUE_CAPACITY: usize = writer::BATCH;
/// The maximum number of rows that one transaction deletes or pseudonymizes, so that no scan waits for it for long.
const BATCH: usize = 100;
/// The upper bounds of the buckets of [`SqlMetrics`].
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// The time limit for counting the records when the metrics are read.
const COUNT_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of a visitor's records that one query of an erasure returns. The query has to read the whole table, so this
/// is large.
const ERASE_ROWS: usize = 10_000;

/// A ledger in a database. After it is dropped, the writer finishes the pending jobs.
#[derive(Debug)]
pub struct SqlLedger {
    limits: Limits,
    database: Database,
    jobs: mpsc::Sender<Job>,
    cache: RecordCache,
    records: Arc<AtomicUsize>,
    /// The id up to which the sweep in progress has looked, or 0.
    swept_to: AtomicI64,
    metrics: SqlMetrics,
}

metrics! {
    #[derive(Debug)]
    struct SqlMetrics {
        /// Decisions committed to the database in one transaction. Values that stay near 256 mean that commits are too
        /// slow for the traffic.
        ledger_batch_records: Histogram = Histogram::new(BATCH_BUCKETS),
    }
}

impl SqlLedger {
    /// Opens the ledger in a database, and starts its writer and the database's probe.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn open(database: Database, limits: Limits) -> Result<Self, LedgerError> {
        let engine = database.engine();
        let count = database.look_up(move |connection| Box::pin(upkeep::count(connection, engine))).await?;
        let records = Arc::new(AtomicUsize::new(count));
        let (jobs, pending) = mpsc::channel(QUEUE_CAPACITY);
        let metrics = SqlMetrics::default();
        let batch_sizes = metrics.ledger_batch_records.clone();
        let writer = |target| writer::run(database.clone(), target, pending, limits, Arc::clone(&records), batch_sizes);
        match database.path() {
            Some(path) => {
                let (writer, runtime) = (writer(Target::Sqlite(Recorder::new(path.to_owned()))), Handle::current());
                let thread = thread::Builder::new().name("ledger".to_owned());
                thread.spawn(move || runtime.block_on(writer)).map_err(DatabaseError::from)?;
                database.start_write_watch();
                database.start_probe(probe::sqlite);
            }
            None => {
                tokio::spawn(writer(Target::Postgres));
                database.start_probe(probe::postgres);
            }
        }
        let cache = RecordCache::new(limits.cache);
        Ok(Self { limits, database, jobs, cache, records, swept_to: AtomicI64::new(0), metrics })
    }

    /// Looks a scan up in the cache.
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
        let found = rule::find(rows::of_event(&records), fingerprint, now, self.limits.retention);
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
        if !self.database.accepts_queries() {
            return Err(DatabaseError::Down.into()); // fails immediately instead of queueing
        }
        let (event, fingerprint) = (entry.scan.event.id, entry.fingerprint);
        let (reply, answer) = oneshot::channel();
        let job = Job::Record { pending: PendingRecord { entry: Box::new(entry), decided_at: now, deadline }, reply };
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Ok(Recorded::Busy),
            Err(TrySendError::Closed(_)) => return Err(writer_stopped()),
        }
        let recorded = answer.await.map_err(|_| writer_stopped())??;
        if let Recorded::New(record) | Recorded::Replay(record) = &recorded {
            self.cache.keep(event, fingerprint, record);
        }
        Ok(recorded)
    }

    pub(super) async fn sessions(
        &self,
        before: Option<RecordId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Page<Session>, LedgerError> {
        let max_age = self.limits.session_max_age;
        let page =
            self.database.look_up(move |connection| Box::pin(lists::sessions(connection, before, limit, now, max_age)));
        Ok(page.await?)
    }

    pub(super) async fn decisions(
        &self,
        before: Option<RecordId>,
        limit: usize,
    ) -> Result<Page<DecisionEntry>, LedgerError> {
        Ok(self.database.look_up(move |connection| Box::pin(lists::decisions(connection, before, limit))).await?)
    }

    /// Replaces a visitor's id by a pseudonym, in small batches.
    pub(super) async fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) -> Result<(), LedgerError> {
        loop {
            let of = visitor.clone();
            let found =
                self.database.look_up(move |connection| Box::pin(upkeep::find_visitor(connection, of, ERASE_ROWS)));
            let found = found.await?;
            if found.is_empty() {
                self.forget();
                return Ok(());
            }
            for batch in found.chunks(BATCH) {
                let (batch, to) = (batch.to_vec(), pseudonym.clone());
                let rename = self
                    .database
                    .transaction(move |connection| Box::pin(upkeep::pseudonymize_visitor(connection, batch, to)));
                rename.await?;
            }
        }
    }

    /// Removes erased data from the database's files.
    pub(super) async fn purge(&self) -> Result<(), LedgerError> {
        Ok(self.database.purge().await?)
    }

    /// Clears the cache.
    pub(super) fn forget(&self) {
        self.cache.clear();
    }

    /// Removes some expired records, and returns whether there may be more.
    pub(super) async fn sweep_batch(&self, now: DateTime<Utc>) -> Result<bool, LedgerError> {
        let (limits, engine, after) = (self.limits, self.database.engine(), self.swept_to.load(Ordering::Relaxed));
        let swept = self
            .database
            .transaction(move |connection| Box::pin(upkeep::sweep(connection, engine, limits, now, after, BATCH)));
        let Swept { deleted, last } = swept.await?;
        self.records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(deleted))).ok();
        self.swept_to.store(last.unwrap_or(0), Ordering::Relaxed);
        Ok(last.is_some())
    }

    /// Writes the pending jobs, and closes the database.
    pub(super) async fn close(&self) -> Result<(), LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Close { reply }).await.map_err(|_| writer_stopped())?;
        answer.await.map_err(|_| writer_stopped())?;
        self.database.close().await;
        Ok(())
    }

    /// Counts the records again, if other connectors may write them as well. If that takes too long, the previous count
    /// is kept.
    pub(super) async fn count(&self) {
        if self.database.engine() == Engine::Postgres {
            let count = self.database.look_up(|connection| Box::pin(upkeep::count(connection, Engine::Postgres)));
            if let Ok(Ok(count)) = timeout(COUNT_TIMEOUT, count).await {
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

    /// The number of decisions that wait for the writer.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        QUEUE_CAPACITY.saturating_sub(self.jobs.capacity())
    }

    pub(super) fn cached(&self) -> usize {
        self.cache.len()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }
}

fn writer_stopped() -> LedgerError {
    LedgerError::Unavailable("the writer of the ledger has stopped".to_owned())
}

impl From<DatabaseError> for LedgerError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Busy => Self::Busy,
            error => Self::Unavailable(error.to_string()),
        }
    }
}
