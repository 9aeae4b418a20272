//! The writer of the ledger: it takes all pending decisions and commits them as one batch. With SQLite it has a thread
//! of its own, with PostgreSQL it is a task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::postgres;
use super::sqlite::Recorder;
use crate::breaker::Subject;
use crate::domain::ids::EventId;
use crate::ledger::{LedgerError, Limits, NewRecord, Recorded};
use crate::storage::{Database, DatabaseError};

/// The maximum number of decisions in one commit.
pub(super) const BATCH: usize = 256;

/// A job for the writer.
#[derive(Debug)]
pub(super) enum Job {
    Record {
        pending: PendingRecord,
        reply: Reply,
    },
    /// Stop after the current batch.
    Close {
        reply: oneshot::Sender<()>,
    },
}

type Reply = oneshot::Sender<Result<Recorded, LedgerError>>;

/// The decisions of a batch. Shared, since the writer keeps them until the database has accepted them.
pub(super) type Batch = Arc<[PendingRecord]>;

/// A decision that has not been recorded yet.
#[derive(Clone, Debug)]
pub(super) struct PendingRecord {
    pub(super) entry: Box<NewRecord>,
    /// When the decision was made, by the connector's clock.
    pub(super) decided_at: DateTime<Utc>,
    /// The caller's deadline. The writer does not start writing after it.
    pub(super) deadline: Instant,
}

impl PendingRecord {
    pub(super) fn is_past_deadline(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// The outcome of a batch.
pub(super) struct BatchOutcome {
    /// The result of each decision, in the order of the batch.
    pub(super) recorded: Vec<Result<Recorded, LedgerError>>,
    /// The change in the record count. Always 0 with PostgreSQL, because other connectors change the count too.
    pub(super) change: isize,
}

/// Where a batch is written.
#[derive(Debug)]
pub(super) enum Target {
    Sqlite(Recorder),
    Postgres,
}

/// Writes until it receives [`Job::Close`], or until the ledger is dropped. Blocks its thread while SQLite writes.
pub(super) async fn run(
    database: Database,
    mut target: Target,
    mut jobs: mpsc::Receiver<Job>,
    limits: Limits,
    records: Arc<AtomicUsize>,
    batch_sizes: Histogram,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if jobs.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (mut pending, mut replies, mut closing) =
            (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()), None);
        for job in batch.drain(..) {
            match job {
                Job::Record { pending, reply } if pending.is_past_deadline() => {
                    drop(reply.send(Err(missed_deadline())));
                }
                Job::Record { pending: record, reply } => {
                    pending.push(record);
                    replies.push(reply);
                }
                Job::Close { reply } => closing = Some(reply),
            }
        }
        if let Ok(size @ 1..) = u32::try_from(pending.len()) {
            batch_sizes.observe(size.into());
        }
        for (reply, recorded) in
            replies.into_iter().zip(write(&database, &mut target, pending.into(), limits, &records).await)
        {
            // Fails if the caller no longer waits. The record is kept anyway.
            drop(reply.send(recorded));
        }
        if let Some(reply) = closing {
            drop(target);
            let _ = reply.send(());
            return;
        }
    }
}

/// Commits the batch. If the database refuses it, commits each event separately.
async fn write(
    database: &Database,
    target: &mut Target,
    pending: Batch,
    limits: Limits,
    records: &AtomicUsize,
) -> Vec<Result<Recorded, LedgerError>> {
    let written = match commit(database, target, &pending, limits).await {
        // Retry each event in its own transaction, so that only the refused event fails.
        Err(error) if error.is_refusal(database.engine()) => {
            tracing::warn!(%error, size = pending.len(), "the database refused a batch of records; retrying each event separately. A scan whose event is refused again gets a 500");
            commit_by_event(database, target, &pending, limits).await
        }
        Err(error) => BatchOutcome::failed(&pending, &error.into()),
        Ok(written) => written,
    };
    records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add_signed(written.change)).ok();
    written.recorded
}

async fn commit_by_event(
    database: &Database,
    target: &mut Target,
    pending: &[PendingRecord],
    limits: Limits,
) -> BatchOutcome {
    let mut events: BTreeMap<EventId, Vec<(usize, PendingRecord)>> = BTreeMap::new();
    for (index, record) in pending.iter().enumerate() {
        events.entry(record.entry.scan.event.id).or_default().push((index, record.clone()));
    }
    let (mut recorded, mut change) = (Vec::with_capacity(pending.len()), 0_isize);
    for (indexes, of_event) in events.into_values().map(|event| event.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()) {
        let of_event = Batch::from(of_event);
        let written = match of_event.iter().any(PendingRecord::is_past_deadline) {
            true => BatchOutcome::failed(&of_event, &missed_deadline()),
            false => match commit(database, target, &of_event, limits).await {
                Ok(written) => written,
                Err(error) => BatchOutcome::failed(&of_event, &error.into()),
            },
        };
        change = change.saturating_add(written.change);
        recorded.extend(indexes.into_iter().zip(written.recorded));
    }
    recorded.sort_unstable_by_key(|(index, _)| *index);
    BatchOutcome { recorded: recorded.into_iter().map(|(_, result)| result).collect(), change }
}

impl BatchOutcome {
    fn failed(pending: &[PendingRecord], error: &LedgerError) -> Self {
        Self { recorded: pending.iter().map(|_| Err(error.clone())).collect(), change: 0 }
    }
}

pub(super) fn missed_deadline() -> LedgerError {
    LedgerError::Unavailable(
        "the decision was not written: its deadline passed before the writer reached it".to_owned(),
    )
}

async fn commit(
    database: &Database,
    target: &mut Target,
    pending: &Batch,
    limits: Limits,
) -> Result<BatchOutcome, DatabaseError> {
    if pending.is_empty() {
        return Ok(BatchOutcome { recorded: Vec::new(), change: 0 });
    }
    let subjects = pending.iter().map(|record| Subject::from(record.entry.fingerprint)).collect();
    match target {
        Target::Sqlite(recorder) => database.record_here(subjects, || recorder.record(pending, limits)).await,
        Target::Postgres => {
            let pending = Arc::clone(pending);
            let work =
                database.record(subjects, move |connection| Box::pin(postgres::record(connection, pending, limits)));
            work.await
        }
    }
}
