//! What was decided: records and sessions. *Decide, then record; records never change.*
//!
//! An auth event has at most one acceptance. A rejection stands under event and fingerprint, up to
//! [`MAX_REJECTIONS`] of them. Recording is one atomic step that also opens or closes the session and returns what holds;
//! whoever comes second, a duplicate at the same instant included, is answered from what the first one recorded.
//!
//! Where a Scan Key Code opens one event only, the same step uses it up. Whoever has the record of that event is answered from it; a rejection uses
//! nothing up.

mod cache;
mod codes;
mod event;
mod memory;
mod records;
mod sessions;
mod sql;

use chrono::{DateTime, TimeDelta, Utc};
use prometheus_client::metrics::histogram::Histogram;
use thiserror::Error;
use tokio::time::Instant;

pub use memory::MemoryLedger;
pub use sessions::{Moment, Page, Session, SessionId, SessionState};
pub use sql::SqlLedger;

use crate::digest::{Digest, Fingerprint};
use crate::domain::decision::Decision;
use crate::domain::ids::{EventId, StoreId, VisitorId};
use crate::domain::scan::AuthEvent;

/// How many rejections an event may gather before other fingerprints are refused unseen. PostgreSQL is told by its schema, which has so
/// many places for them: there the keys decide between connectors.
pub const MAX_REJECTIONS: usize = 8;

/// A record older than this may be forgotten before its time when the ledger is full: no gate retries for so long.
pub const EVICTABLE_AFTER: TimeDelta = TimeDelta::minutes(10);

/// A decision to be recorded.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// The interaction.
    pub event: AuthEvent,
    /// What makes a scan of it the same scan.
    pub fingerprint: Fingerprint,
    /// Where.
    pub store_id: StoreId,
    /// What was decided.
    pub decision: Decision,
    /// The Scan Key Code that an acceptance uses up. When another event has used it, what is recorded is a rejection instead,
    /// [`Denial::KeyAlreadyUsed`](crate::domain::decision::Denial::KeyAlreadyUsed).
    pub code: Option<Digest>,
}

/// A decision that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What was decided.
    pub decision: Decision,
    /// What it did to the visitor's sessions.
    pub session: SessionEffect,
    /// When it was recorded, by our clock.
    pub recorded_at: DateTime<Utc>,
}

/// What a decision did to the sessions of its visitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEffect {
    /// An accepted entry opened this one.
    Opened(SessionId),
    /// An accepted exit closed this one.
    Closed(SessionId),
    /// An accepted exit found none open.
    NoneOpen,
    /// A rejection touches none.
    Untouched,
}

impl SessionEffect {
    /// The stable word for it, if there is anything to say.
    #[must_use]
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Opened(_) => Some("opened"),
            Self::Closed(_) => Some("closed"),
            Self::NoneOpen => Some("none_open"),
            Self::Untouched => None,
        }
    }
}

/// How much a ledger keeps, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a record is kept, at least 24 hours.
    pub retention: TimeDelta,
    /// How many records there may be in memory, and how many sessions.
    pub capacity: usize,
    /// How many records are remembered in front of a database.
    pub cache: usize,
    /// How long a session may be open.
    pub session_max_age: TimeDelta,
}

/// A decision in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionEntry {
    /// Of which auth event.
    pub event: EventId,
    /// Under which fingerprint.
    pub fingerprint: Fingerprint,
    /// What stands.
    pub record: Record,
}

impl DecisionEntry {
    /// Where it stands in the list.
    #[must_use]
    pub fn cursor(&self) -> DecisionCursor {
        let recorded_at = self.record.recorded_at.timestamp_nanos_opt().unwrap_or(i64::MAX);
        DecisionCursor { recorded_at, event: self.event, fingerprint: self.fingerprint }
    }
}

/// A place in the list of decisions: the list goes on behind it, with what is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DecisionCursor {
    /// When it was recorded, in nanoseconds since 1970.
    pub recorded_at: i64,
    /// Decisions of one instant come in the order of their events,
    pub event: EventId,
    /// and those of one event in the order of their fingerprints.
    pub fingerprint: Fingerprint,
}

impl DecisionCursor {
    /// Where the list begins.
    pub const NEWEST: Self = Self {
        recorded_at: i64::MAX,
        event: EventId::from_bytes([0xff; 16]),
        fingerprint: Fingerprint::from_bytes([0xff; 32]),
    };
}

/// A page of decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionPage {
    /// The newest first.
    pub decisions: Vec<DecisionEntry>,
    /// Where the next page begins, when there is one.
    pub next: Option<DecisionCursor>,
}

/// What the ledger knows of a scan before it is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Nothing that stands in its way.
    Unknown,
    /// It was decided already.
    Recorded(Record),
    /// The event was decided with other parameters, in a way that leaves no room for these.
    Mismatch,
}

/// What came of recording a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It stands now.
    New(Record),
    /// Another stood already, and holds.
    Replay(Record),
    /// The event was decided with other parameters meanwhile.
    Mismatch,
    /// There is no room, and every record is too young to be forgotten. Room may come after this time.
    Full {
        /// How long until the oldest record may be forgotten.
        retry_after: TimeDelta,
    },
    /// As much waits to be written as can be in time.
    Busy,
}

/// The ledger could not be asked or written.
#[derive(Clone, Debug, Error)]
pub enum LedgerError {
    /// It did not answer, or said no.
    #[error("ledger unavailable: {0}")]
    Unavailable(String),
    /// It answers others, as many as it can.
    #[error("ledger busy")]
    Busy,
    /// Its disk takes longer than a scan may wait. Recording goes on.
    #[error("ledger slow: the decision is still being written to the disk, and a retry is answered with it")]
    Slow,
}

/// The ledgers that there are.
#[derive(Debug)]
pub enum Ledger {
    /// In this process's memory: gone with it.
    Memory(MemoryLedger),
    /// In a database.
    Sql(SqlLedger),
}

impl Ledger {
    /// What this process remembers of a scan, at no cost: a database may know more.
    #[must_use]
    pub fn recall(&self, event: EventId, fingerprint: &Fingerprint, now: DateTime<Utc>) -> Lookup {
        match self {
            Self::Memory(ledger) => ledger.find(event, fingerprint, now),
            Self::Sql(ledger) => ledger.recall(event, fingerprint, now),
        }
    }

    /// What is known of a scan.
    ///
    /// # Errors
    /// When the ledger cannot tell.
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

    /// Records a decision, its session and its code in one atomic step, and returns what holds. Where it must wait for others, it does not begin
    /// after `deadline`.
    ///
    /// # Errors
    /// When the ledger cannot be written, or not in time; nothing is recorded then, unless it had begun.
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

    /// Sessions, the newest first: at most `limit`, older than `before` if given.
    ///
    /// # Errors
    /// When the ledger cannot tell.
    pub async fn sessions(
        &self,
        before: Option<SessionId>,
        limit: usize,
        now: DateTime<Utc>,
    ) -> Result<Page, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.sessions(before, limit, now)),
            Self::Sql(ledger) => ledger.sessions(before, limit, now).await,
        }
    }

    /// Decisions, the newest first: at most `limit`, older than `before` if given.
    ///
    /// # Errors
    /// When the ledger cannot tell.
    pub async fn decisions(&self, before: Option<DecisionCursor>, limit: usize) -> Result<DecisionPage, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.decisions(before, limit)),
            Self::Sql(ledger) => ledger.decisions(before, limit).await,
        }
    }

    /// Puts a pseudonym wherever a visitor is named, and drops their devices and payment methods: the one thing that changes a
    /// record. Asked for again, it does what is left to do.
    ///
    /// # Errors
    /// When the ledger cannot be written; some of it may be done.
    pub async fn erase(&self, visitor: &VisitorId, pseudonym: &VisitorId) -> Result<(), LedgerError> {
        match self {
            Self::Memory(ledger) => {
                ledger.erase(visitor, pseudonym);
                Ok(())
            }
            Self::Sql(ledger) => ledger.erase(visitor, pseudonym).await,
        }
    }

    /// Removes what was erased from the files of a database that this process has to itself.
    ///
    /// # Errors
    /// When another process keeps the files in use.
    pub async fn purge(&self) -> Result<(), LedgerError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sql(ledger) => ledger.purge().await,
        }
    }

    /// Forgets what is only remembered and not kept: somebody was erased elsewhere.
    pub fn forget(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Sql(ledger) => ledger.forget(),
        }
    }

    /// Lets go of what is past its time, in small batches between which scans come first. Called now and then; nothing
    /// depends on when.
    ///
    /// # Errors
    /// When the ledger cannot be written.
    pub async fn sweep(&self, now: DateTime<Utc>) -> Result<(), LedgerError> {
        loop {
            let more = match self {
                Self::Memory(ledger) => ledger.sweep_some(now),
                Self::Sql(ledger) => ledger.sweep_some(now).await?,
            };
            if !more {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Ends it: nothing can be found or recorded afterwards.
    ///
    /// # Errors
    /// When it could not be closed cleanly; what was recorded is recorded all the same.
    pub async fn close(&self) -> Result<(), LedgerError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sql(ledger) => ledger.close().await,
        }
    }

    /// Counts the records anew, where others write them as well.
    pub async fn count(&self) {
        match self {
            Self::Memory(_) => {}
            Self::Sql(ledger) => ledger.count().await,
        }
    }

    /// Whether recording takes longer than a scan may wait, so that a scan's retry is what gets the answer.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Sql(ledger) => ledger.is_slow(),
        }
    }

    /// How many records there are, or were when they were counted.
    #[must_use]
    pub fn records(&self) -> usize {
        match self {
            Self::Memory(ledger) => ledger.records(),
            Self::Sql(ledger) => ledger.records(),
        }
    }

    /// How many records are remembered in front of a database.
    #[must_use]
    pub fn cached(&self) -> usize {
        match self {
            Self::Memory(_) => 0,
            Self::Sql(ledger) => ledger.cached(),
        }
    }

    /// How many records were committed together each time, where they are committed to a database.
    #[must_use]
    pub fn batch_sizes(&self) -> Option<&Histogram> {
        match self {
            Self::Memory(_) => None,
            Self::Sql(ledger) => Some(ledger.batch_sizes()),
        }
    }

    /// How many records were forgotten before their time because the ledger was full, since the start.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        match self {
            Self::Memory(ledger) => ledger.evictions(),
            Self::Sql(_) => 0, // a disk is not full at a number of records
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
