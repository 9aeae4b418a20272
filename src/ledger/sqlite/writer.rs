//! The one task that writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _};
use tokio::sync::{mpsc, oneshot};

use super::rows;
use crate::domain::decision::Decision;
use crate::domain::scan::Location;
use crate::ledger::{LedgerError, Limits, Lookup, NewRecord, Record, Recorded, SessionEffect};

/// The most that one commit takes along.
const BATCH: usize = 256;
/// The most that one sweep lets go of, so that no scan waits long behind it.
const SWEEP_BATCH: usize = 500;

type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// Something to be written, or the end of it.
#[derive(Debug)]
pub(super) enum Job {
    /// A decision and what it does to the sessions.
    Record { entry: Box<NewRecord>, now: DateTime<Utc>, reply: Reply<Recorded> },
    /// Some of what is past its time is to go.
    Sweep { now: DateTime<Utc>, reply: Reply<bool> },
    /// Nothing more is to be written.
    Close { reply: Reply<()> },
}

/// What a job came to, to be told once it is committed.
enum Done {
    Closing(Reply<()>),
    Recorded(Reply<Recorded>, Result<Recorded, LedgerError>),
    Swept(Reply<bool>, Result<bool, LedgerError>),
}

/// Writes until it is told to close, or nobody can ask any more; then closes the database, which is one whole file again.
pub(super) async fn run(
    mut connection: SqliteConnection,
    mut jobs: mpsc::Receiver<Job>,
    limits: Limits,
    records: Arc<AtomicUsize>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut closing = Vec::new();
    while closing.is_empty() && jobs.recv_many(&mut batch, BATCH).await > 0 {
        let mut writer =
            Writer { connection: &mut connection, limits, change: 0, done: Vec::with_capacity(batch.len()) };
        let written = writer.write(batch.drain(..)).await;
        let (change, done) = (writer.change, writer.done);
        match written {
            Ok(()) => {
                records.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add_signed(change)).ok();
                closing.extend(done.into_iter().filter_map(Done::tell));
            }
            // Nothing of the batch is committed. Jobs that were not come to hear it from their channel, which is closed.
            Err(error) => {
                if let Err(error) = connection.execute("ROLLBACK").await {
                    tracing::debug!(%error, "nothing to roll back");
                }
                let error = LedgerError::from(error);
                done.into_iter().for_each(|done| done.fail(&error));
            }
        }
    }
    let closed = connection.close().await.map_err(LedgerError::from);
    if let Err(error) = &closed {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
    for reply in closing {
        let _ = reply.send(closed.clone());
    }
}

impl Done {
    fn fail(self, error: &LedgerError) {
        match self {
            Self::Closing(reply) => drop(reply.send(Err(error.clone()))),
            Self::Recorded(reply, _) => drop(reply.send(Err(error.clone()))),
            Self::Swept(reply, _) => drop(reply.send(Err(error.clone()))),
        }
    }

    /// Tells whoever waits, except those who wait for the end: they are returned.
    fn tell(self) -> Option<Reply<()>> {
        // Whoever asked may have gone; what is written stays.
        match self {
            Self::Closing(reply) => return Some(reply),
            Self::Recorded(reply, result) => drop(reply.send(result)),
            Self::Swept(reply, result) => drop(reply.send(result)),
        }
        None
    }
}

struct Writer<'c> {
    connection: &'c mut SqliteConnection,
    limits: Limits,
    /// By how much the number of records has changed.
    change: isize,
    /// What the jobs of this batch came to.
    done: Vec<Done>,
}

impl Writer<'_> {
    async fn write(&mut self, batch: impl Iterator<Item = Job>) -> Result<(), sqlx::Error> {
        self.connection.execute("BEGIN IMMEDIATE").await?;
        for job in batch {
            self.connection.execute("SAVEPOINT job").await?;
            let before = self.change;
            let (this, failed) = match job {
                Job::Record { entry, now, reply } => {
                    let result = self.record(&entry, now).await;
                    let failed = result.is_err();
                    (Done::Recorded(reply, result), failed)
                }
                Job::Close { reply } => (Done::Closing(reply), false),
                Job::Sweep { now, reply } => {
                    let result = self.sweep(now).await;
                    let failed = result.is_err();
                    (Done::Swept(reply, result), failed)
                }
            };
            self.done.push(this);
            if failed {
                self.change = before;
                self.connection.execute("ROLLBACK TO job").await?;
            }
            self.connection.execute("RELEASE job").await?;
        }
        self.connection.execute("COMMIT").await?;
        Ok(())
    }

    async fn record(&mut self, entry: &NewRecord, now: DateTime<Utc>) -> Result<Recorded, LedgerError> {
        let event = entry.event.id;
        let records = rows::records(self.connection, event).await?;
        match records.find(&entry.fingerprint, now, self.limits.retention) {
            Lookup::Recorded(record) => return Ok(Recorded::Replay(record)),
            Lookup::Mismatch => return Ok(Recorded::Mismatch),
            Lookup::Unknown => {}
        }
        let past = rows::forget_event(self.connection, event, self.limits.retention, now).await?;
        let session = match (&entry.decision, entry.event.location) {
            (Decision::Denied(_), _) => SessionEffect::Untouched,
            (Decision::Accepted(grant), Location::Entry) => {
                SessionEffect::Opened(rows::open_session(self.connection, entry, grant, now).await?)
            }
            (Decision::Accepted(grant), Location::Exit) => {
                let oldest = now.checked_sub_signed(self.limits.session_max_age).unwrap_or(DateTime::<Utc>::MIN_UTC);
                let closed = rows::close_session(self.connection, entry, grant, now, oldest).await?;
                closed.map_or(SessionEffect::NoneOpen, SessionEffect::Closed)
            }
        };
        let record = Record { decision: entry.decision.clone(), session, recorded_at: now };
        rows::insert(self.connection, event, &entry.fingerprint, &record).await?;
        self.change = self.change.saturating_add(1).saturating_sub_unsigned(past);
        Ok(Recorded::New(record))
    }

    async fn sweep(&mut self, now: DateTime<Utc>) -> Result<bool, LedgerError> {
        let (records, sessions) = rows::sweep(self.connection, &self.limits, now, SWEEP_BATCH).await?;
        self.change = self.change.saturating_sub_unsigned(records);
        Ok(records == SWEEP_BATCH || sessions == SWEEP_BATCH)
    }
}
