//! The ledger: the records of decisions, and the sessions that they open and close. *Decide, then record; records never
//! change.*
//!
//! An auth event has at most one acceptance, and at most [`MAX_REJECTIONS`] rejections, one for each fingerprint.
//! Recording is one atomic step that also opens or closes the session. The first record wins: every later request for
//! the same event and fingerprint, even at the same instant, is answered from it.
//!
//! Where a Scan Key Code may open only one event, the same step marks it as used. A retry of that event is still
//! answered from its record. A rejection uses no code.

mod cache;
mod memory;
mod records;
mod rule;
mod sessions;
mod sql;

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::time::Instant;

pub use memory::MemoryLedger;
pub(crate) use sessions::{Moment, Session, SessionState};
pub use sql::SqlLedger;

use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::Decision;
use crate::domain::ids::{EventId, VisitorId};
use crate::domain::scan::ScanDetails;
use crate::observe::metrics::readings;

/// The maximum number of rejections of an event. Further fingerprints are then answered with a mismatch, without a
/// decision. The schemas of the databases repeat this number.
pub(crate) const MAX_REJECTIONS: usize = 8;

/// When the ledger is full, a record older than this may be removed before its retention ends, since no gate retries
/// for so long.
pub(crate) const EVICTABLE_AFTER: TimeDelta = TimeDelta::minutes(10);

/// A decision to be recorded.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// The scan.
    pub scan: ScanDetails,
    /// Identifies the scan: a request with the same event and fingerprint is a retry of it.
    pub fingerprint: Fingerprint,
    /// The decision.
    pub decision: Decision,
    /// The Scan Key Code that an acceptance uses. If another event has used it, a rejection is recorded instead,
    /// [`Denial::KeyAlreadyUsed`](crate::domain::decision::Denial::KeyAlreadyUsed).
    pub code: Option<Digest>,
}

/// A recorded decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub decision: Decision,
    /// Its effect on the visitor's sessions.
    pub session: SessionEffect,
    /// When it was recorded, by the connector's clock.
    pub recorded_at: DateTime<Utc>,
}

/// The number of a record, in the order of recording. The session that an entry opens has the number of its record.
/// Some numbers are not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(pub u64);

/// The effect of a decision on its visitor's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEffect {
    /// An accepted entry opened this session.
    Opened(RecordId),
    /// An accepted exit closed this session.
    Closed(RecordId),
    /// An accepted exit found no open session.
    NoneOpen,
    /// A rejection changes no session.
    Untouched,
}

impl SessionEffect {
    /// The stable identifier of the effect, or `None` for a rejection.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Opened(_) => Some("opened"),
            Self::Closed(_) => Some("closed"),
            Self::NoneOpen => Some("none_open"),
            Self::Untouched => None,
        }
    }
}

/// The limits of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a record is kept, at least 24 hours.
    pub retention: TimeDelta,
    /// The maximum number of records of a ledger in memory.
    pub capacity: usize,
    /// The maximum number of records that are cached in front of a database.
    pub cache: usize,
    /// How long a session may stay open, at most `retention`.
    pub session_max_age: TimeDelta,
}

/// A decision in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionEntry {
    pub id: RecordId,
    pub scan: ScanDetails,
    pub record: Record,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, newest first.
    pub rows: Vec<T>,
    /// The row after which the next page begins, if there is one.
    pub next: Option<RecordId>,
}

impl<T> Page<T> {
    /// The first `limit` of these rows. One row more shows that there is a next page.
    fn new(rows: impl IntoIterator<Item = T>, limit: usize, id: impl FnOnce(&T) -> RecordId) -> Self {
        let mut rows: Vec<_> = rows.into_iter().take(limit.saturating_add(1)).collect();
        let more = rows.len() > limit;
        rows.truncate(limit);
        Self { next: rows.last().filter(|_| more).map(id), rows }
    }
}

/// What the ledger knows about a scan before it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// No record that prevents a new decision.
    Unknown,
    /// The scan's existing record.
    Recorded(Record),
    /// The event was decided with other parameters, and cannot be decided with these: it was accepted, or has the
    /// maximum of rejections.
    Mismatch,
}

/// The outcome of recording a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The decision is recorded.
    New(Record),
    /// The scan already has this record, which stays in effect.
    Replay(Record),
    /// The event was decided with other parameters in the meantime.
    Mismatch,
    /// The ledger is full, and every record is too young to be removed.
    Full {
        /// The time until the oldest record may be removed.
        retry_after: TimeDelta,
    },
    /// The queue of the writer is full: this decision could not be written in time.
    Busy,
}

/// Errors of reading or writing the ledger.
#[derive(Clone, Debug, Error)]
pub enum LedgerError {
    /// The database does not answer, or has returned an error.
    #[error("ledger unavailable: {0}")]
    Unavailable(String),
    /// The database answers, but has more requests than it can serve in time.
    #[error("ledger busy")]
    Busy,
    /// The disk takes longer than a scan may wait. The decision is still being recorded.
    #[error("ledger slow: the decision is still being written to the disk, and a retry is answered with it")]
    Slow,
}

/// A ledger in memory or in a database.
#[derive(Debug)]
pub enum Ledger {
    /// In this process's memory. Its records are lost when the process ends.
    Memory(MemoryLedger),
    /// In a database.
    Sql(SqlLedger),
}

impl Ledger {
    /// Looks a scan up in this process's memory only. A database may have records that are not cached here.
    pub fn recall(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Lookup {
        match self {
            Self::Memory(ledger) => ledger.find(event, fingerprint, now),
            Self::Sql(ledger) => ledger.recall(event, fingerprint, now),
        }
    }

    /// Looks a scan up.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn find(
        &self,
        event: EventId,
        fingerprint: &Fingerprint,
        now: DateTime<Utc>,
    ) -> Result<Lookup, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.find(event, fingerprint, now)),
            Self::Sql(ledger) => ledger.find(event, fingerprint, now).await,
        }
    }

    /// Records a decision, its session and its code in one atomic step, and returns the record that is valid. If the
    /// decision has to wait for earlier batches, writing it does not begin after `deadline`.
    ///
    /// # Errors
    /// When the ledger cannot be written, or not in time. Nothing is recorded then, unless writing had begun.
    pub async fn record(
        &self,
        entry: NewRecord,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Recorded, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.record(&entry, now)),
            Self::Sql(ledger) => ledger.record(entry, now, deadline).await,
        }
    }

    /// Lists at most `limit` sessions, newest first, older than `before` if given.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn sessions(
        &self,
        before: Option<RecordId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Page<Session>, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.sessions(before, limit, now)),
            Self::Sql(ledger) => ledger.sessions(before, limit, now).await,
        }
    }

    /// Lists at most `limit` decisions, newest first, older than `before` if given.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub async fn decisions(&self, before: Option<RecordId>, limit: usize) -> Result<Page<DecisionEntry>, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.decisions(before, limit)),
            Self::Sql(ledger) => ledger.decisions(before, limit).await,
        }
    }

    /// Replaces a visitor's id by a pseudonym in all records and sessions, and removes their devices and payment
    /// methods. Nothing else ever changes a record. A second call finishes an erasure that failed half way.
    ///
    /// # Errors
    /// When the ledger cannot be written. Some rows may be changed already.
    pub async fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) -> Result<(), LedgerError> {
        match self {
            Self::Memory(ledger) => {
                ledger.erase(visitor, pseudonym);
                Ok(())
            }
            Self::Sql(ledger) => ledger.erase(visitor, pseudonym).await,
        }
    }

    /// Removes erased data from the files of a SQLite database.
    ///
    /// # Errors
    /// When another process keeps reading the files.
    pub async fn purge(&self) -> Result<(), LedgerError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sql(ledger) => ledger.purge().await,
        }
    }

    /// Clears the cache, after another connector has erased a shopper.
    pub fn forget(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Sql(ledger) => ledger.forget(),
        }
    }

    /// Removes expired records and sessions, in small batches, between which scans are served first. Called regularly;
    /// no answer depends on the time of the call.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn sweep(&self, now: DateTime<Utc>) -> Result<(), LedgerError> {
        loop {
            let more = match self {
                Self::Memory(ledger) => ledger.sweep_batch(now),
                Self::Sql(ledger) => ledger.sweep_batch(now).await?,
            };
            if !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Closes the ledger. Nothing can be found or recorded afterwards.
    ///
    /// # Errors
    /// When it could not be closed cleanly. Everything that was recorded is still recorded.
    pub async fn close(&self) -> Result<(), LedgerError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sql(ledger) => ledger.close().await,
        }
    }

    /// Counts the records again, in a database that other connectors write to as well.
    pub async fn count(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Sql(ledger) => ledger.count().await,
        }
    }

    /// Whether recording takes longer than a scan may wait, so that only the scan's retry gets the decision.
    pub fn is_slow(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Sql(ledger) => ledger.is_slow(),
        }
    }

    /// The number of records, at the last count.
    pub fn records(&self) -> usize {
        match self {
            Self::Memory(ledger) => ledger.records(),
            Self::Sql(ledger) => ledger.records(),
        }
    }

    /// Adds the ledger's metrics to a registry.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        readings! { registry, ledger = self;
            /// Decisions in the ledger; with PostgreSQL the total of all replicas, which is an estimate beyond ten
            /// thousand.
            gauge ledger_records = ledger.records();
            /// Decisions evicted before ledger.retention ended, because the in-memory ledger was full. A retry of an
            /// evicted event is decided again: raise ledger.capacity.
            counter ledger_evictions = match &*ledger {
                Self::Memory(ledger) => ledger.evictions(),
                Self::Sql(_) => 0, // only a ledger in memory has a maximum number of records
            };
            /// Decisions in the cache in front of the database, at most ledger.cache.
            gauge ledger_cached = match &*ledger {
                Self::Memory(_) => 0,
                Self::Sql(ledger) => ledger.cached(),
            };
        }
        if let Self::Sql(ledger) = &**self {
            ledger.register(registry);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
