//! The one task that writes: takes whatever waits and has it committed as one batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{postgres, sqlite};
use crate::breaker::Subject;
use crate::domain::ids::EventId;
use crate::ledger::{LedgerError, Limits, NewRecord, Recorded};
use crate::storage::{Database, DatabaseError, Engine};

/// The most that one commit takes along.
pub(super) const BATCH: usize = 256;

/// Something to be written, or the end of it.
#[derive(Debug)]
pub(super) enum Job {
    /// A decision and what it does to the sessions.
    Record { waiting: Waiting, reply: Reply },
    /// Nothing more is to be written.
    Close { reply: oneshot::Sender<()> },
}

type Reply = oneshot::Sender<Result<Recorded, LedgerError>>;

/// A decision that waits to be recorded.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) entry: Box<NewRecord>,
    /// When that was asked, by our clock.
    pub(super) now: DateTime<Utc>,
    /// When its caller has been told that it failed: it is not begun after that.
    pub(super) deadline: Instant,
}

impl Waiting {
    fn is_too_late(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

/// What came of a batch: of each decision in its order what holds, and by how much the number of records
/// has changed where this process alone changes it.
pub(super) struct Written {
    pub(super) recorded: Vec<Result<Recorded, LedgerError>>,
    pub(super) change: isize,
}

/// Writes until it is told to close, or nobody can ask any more.
pub(super) async fn run(
    database: Database,
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
        let (mut waiting, mut replies, mut closing) =
            (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()), None);
        for job in batch.drain(..) {
            match job {
                Job::Record { waiting, reply } if waiting.is_too_late() => drop(reply.send(Err(too_late()))),
                Job::Record { waiting: one, reply } => {
                    waiting.push(one);
                    replies.push(reply);
                }
                Job::Close { reply } => closing = Some(reply),
            }
        }
        if let Ok(size @ 1..) = u32::try_from(waiting.len()) {
            batch_sizes.observe(size.into());
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

/// Has a batch committed, or what of it can be.
async fn write(
    database: &Database,
    waiting: Vec<Waiting>,
    limits: Limits,
    records: &AtomicUsize,
) -> Vec<Result<Recorded, LedgerError>> {
    let written = match commit(database, waiting.clone(), limits).await {
        // The database was asked and refused something of it: that fails alone, with what belongs to the same event.
        Err(error) if error.is_refusal(database.engine()) => {
            tracing::warn!(%error, size = waiting.len(), "a batch of records failed: each event is recorded by itself");
            commit_by_event(database, waiting, limits).await
        }
        Err(error) => Written::nothing(&waiting, &error.into()),
        Ok(written) => written,
    };
    records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add_signed(written.change)).ok();
    written.recorded
}

async fn commit_by_event(database: &Database, waiting: Vec<Waiting>, limits: Limits) -> Written {
    let size = waiting.len();
    let mut events: BTreeMap<EventId, Vec<(usize, Waiting)>> = BTreeMap::new();
    for (place, one) in waiting.into_iter().enumerate() {
        events.entry(one.entry.event.id).or_default().push((place, one));
    }
    let (mut recorded, mut change) = (Vec::with_capacity(size), 0_isize);
    for (places, of_event) in events.into_values().map(|event| event.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()) {
        let written = match of_event.iter().any(Waiting::is_too_late) {
            true => Written::nothing(&of_event, &too_late()),
            false => match commit(database, of_event.clone(), limits).await {
                Ok(written) => written,
                Err(error) => Written::nothing(&of_event, &error.into()),
            },
        };
        change = change.saturating_add(written.change);
        recorded.extend(places.into_iter().zip(written.recorded));
    }
    recorded.sort_unstable_by_key(|(place, _)| *place);
    Written { recorded: recorded.into_iter().map(|(_, one)| one).collect(), change }
}

impl Written {
    fn nothing(waiting: &[Waiting], error: &LedgerError) -> Self {
        Self { recorded: waiting.iter().map(|_| Err(error.clone())).collect(), change: 0 }
    }
}

fn too_late() -> LedgerError {
    LedgerError::Unavailable("it could not begin in time".to_owned())
}

async fn commit(database: &Database, waiting: Vec<Waiting>, limits: Limits) -> Result<Written, DatabaseError> {
    if waiting.is_empty() {
        return Ok(Written { recorded: Vec::new(), change: 0 });
    }
    let subjects = waiting.iter().map(|one| Subject::from(one.entry.fingerprint)).collect();
    let engine = database.engine();
    let written = database.record(subjects, move |connection| match engine {
        Engine::Sqlite => Box::pin(sqlite::record(connection, waiting, limits)),
        Engine::Postgres => Box::pin(postgres::record(connection, waiting, limits)),
    });
    written.await
}
