//! What was decided: records and sessions. *Decide, then record; records never change.*
//!
//! An auth event has at most one acceptance. A rejection stands under event and fingerprint, up to
//! [`MAX_REJECTIONS`] of them. Recording is one atomic step that also opens or closes the session and returns what holds;
//! whoever comes second, a duplicate at the same instant included, is answered from what the first one recorded.

mod event;
mod memory;
mod sessions;
mod sqlite;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

pub use memory::{Limits, MemoryLedger};
pub use sessions::{Moment, Page, Session, SessionId, SessionState};
pub use sqlite::SqliteLedger;

use crate::digest::Fingerprint;
use crate::domain::decision::Decision;
use crate::domain::ids::{EventId, StoreId};
use crate::domain::scan::AuthEvent;

/// How many rejections an event may gather before other fingerprints are refused unseen.
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
}

/// The ledger could not be asked or written.
#[derive(Clone, Debug, Error)]
#[error("ledger unavailable: {0}")]
pub struct LedgerError(pub String);

/// The ledgers that there are.
#[derive(Debug)]
pub enum Ledger {
    /// In this process's memory: gone with it.
    Memory(MemoryLedger),
    /// In a SQLite file.
    Sqlite(SqliteLedger),
}

impl Ledger {
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
            Self::Sqlite(ledger) => ledger.find(event, fingerprint, now).await,
        }
    }

    /// Records a decision and its session in one atomic step, and returns what holds.
    ///
    /// # Errors
    /// When the ledger cannot be written; nothing is recorded then.
    pub async fn record(&self, entry: NewRecord, now: DateTime<Utc>) -> Result<Recorded, LedgerError> {
        match self {
            Self::Memory(ledger) => Ok(ledger.record(&entry, now)),
            Self::Sqlite(ledger) => ledger.record(entry, now).await,
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
            Self::Sqlite(ledger) => ledger.sessions(before, limit, now).await,
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
                Self::Sqlite(ledger) => ledger.sweep_some(now).await?,
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
            Self::Sqlite(ledger) => ledger.close().await,
        }
    }

    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> usize {
        match self {
            Self::Memory(ledger) => ledger.records(),
            Self::Sqlite(ledger) => ledger.records(),
        }
    }

    /// How many records were forgotten before their time because the ledger was full, since the start.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        match self {
            Self::Memory(ledger) => ledger.evictions(),
            Self::Sqlite(_) => 0, // a disk is not full at a number of records
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
