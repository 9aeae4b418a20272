//! The one task that writes: takes whatever waits and has it committed as one batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use tokio::sync::{mpsc, oneshot};

use super::{postgres, sqlite, subject};
use crate::ledger::{LedgerError, Limits, NewRecord, Recorded};
use crate::storage::{Database, DatabaseError, Engine};

/// The most that one commit takes along.
const BATCH: usize = 256;

/// Something to be written, or the end of it.
#[derive(Debug)]
pub(super) enum Job {
    /// A decision and what it does to the sessions.
    Record { entry: Box<NewRecord>, now: DateTime<Utc>, reply: Reply },
    /// Nothing more is to be written.
    Close { reply: oneshot::Sender<()> },
}

type Reply = oneshot::Sender<Result<Recorded, LedgerError>>;

/// A decision that waits to be recorded, and the time at which that was asked.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) entry: Box<NewRecord>,
    pub(super) now: DateTime<Utc>,
}

/// What came of a batch: of each decision in its order what holds, and by how much the number of records has changed.
pub(super) struct Written {
    pub(super) recorded: Vec<Result<Recorded, LedgerError>>,
    pub(super) change: isize,
}

/// Writes until it is told to close, or nobody can ask any more.
pub(super) async fn run(database: Database, mut jobs: mpsc::Receiver<Job>, limits: Limits, records: Arc<AtomicUsize>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if jobs.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let (mut waiting, mut replies, mut closing) =
            (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()), None);
        for job in batch.drain(..) {
            match job {
                Job::Record { entry, now, reply } => {
                    waiting.push(Waiting { entry, now });
                    replies.push(reply);
                }
                Job::Close { reply } => closing = Some(reply),
            }
        }
        for (reply, recorded) in replies.into_iter().zip(write(&database, waiting, limits, &records).await) {
            // Whoever asked may have gone; what is written stays.
            drop(reply.send(recorded));
        }
        if let Some(reply) = closing {
            let _ = reply.send(());
            return;
        }
    }
}

/// Has a batch committed.
async fn write(
    database: &Database,
    waiting: Vec<Waiting>,
    limits: Limits,
    records: &AtomicUsize,
) -> Vec<Result<Recorded, LedgerError>> {
    match commit(database, waiting.clone(), limits).await {
        Ok(written) => {
            records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add_signed(written.change)).ok();
            written.recorded
        }
        // The database was asked and refused something of it: it fails alone, and the others are recorded.
        Err(error) if error.is_refusal() && waiting.len() > 1 => {
            tracing::warn!(%error, size = waiting.len(), "a batch of records failed: each is recorded by itself");
            let mut recorded = Vec::with_capacity(waiting.len());
            for one in waiting {
                recorded.extend(Box::pin(write(database, vec![one], limits, records)).await);
            }
            recorded
        }
        Err(error) => {
            let error = LedgerError::from(error);
            waiting.iter().map(|_| Err(error.clone())).collect()
        }
    }
}

async fn commit(database: &Database, waiting: Vec<Waiting>, limits: Limits) -> Result<Written, DatabaseError> {
    if waiting.is_empty() {
        return Ok(Written { recorded: Vec::new(), change: 0 });
    }
    let subjects = waiting.iter().map(|one| subject(one.entry.event.id)).collect();
    let engine = database.engine();
    let written = database.record(subjects, move |connection| match engine {
        Engine::Sqlite => Box::pin(sqlite::record(connection, waiting, limits)),
        Engine::Postgres => Box::pin(postgres::record(connection, waiting, limits)),
    });
    written.await
}
