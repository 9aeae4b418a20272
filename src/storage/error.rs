//! Why a database cannot be opened, and why an open one did not do what it was asked for.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use sqlx::Error;
use sqlx::migrate::MigrateError;
use thiserror::Error as ThisError;

use super::Engine;

use crate::cause::of_file;
use crate::digest::HashKeyError;

/// Why a database cannot be opened.
#[derive(Debug, ThisError)]
pub enum StorageError {
    /// Another process has it.
    #[error("storage.url: {0} is in use by another connector: one process at a time writes to a SQLite file")]
    InUse(String),
    /// It has several names, each of which has a lock and a log of its own.
    #[error(
        "storage.url: {path} has {links} names (hard links): a process that uses another name sees neither the lock nor the log of \
         this one. Find them with find -samefile, and remove all but this one", path = .path.display()
    )]
    Linked {
        /// The file.
        path: PathBuf,
        /// How many names it has.
        links: u64,
    },
    /// A file or folder cannot be used.
    #[error("storage.url: {path}: {what}", path = .path.display(), what = of_file(.path, .error))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was made with another hash key, without which nothing in it can be found.
    #[error("security.hash_key: {0} was made with another hash key: restore it, or start with a new database")]
    OtherKey(String),
    /// The key file holds no key.
    #[error("security.hash_key: {path}: {error}")]
    KeyFile {
        /// The file.
        path: String,
        /// Why.
        error: HashKeyError,
    },
    /// It cannot hold every text.
    #[error("storage.url: the database's encoding is {0}, and must be UTF8")]
    Encoding(String),
    /// PostgreSQL's key is not made for it: every connector must have the same.
    #[error("security.hash_key: is required with PostgreSQL")]
    NoKey,
    /// No randomness to be had for a new key.
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The database itself.
    #[error("storage.url: {0}")]
    Database(#[from] Error),
    /// Its schema cannot be brought up to date.
    #[error("storage.url: {0}")]
    Migration(#[from] MigrateError),
}

impl StorageError {
    /// Whether another start with the same configuration would fail alike.
    #[must_use]
    pub fn is_misconfiguration(&self) -> bool {
        match self {
            // Who may not come in, or to what is not there.
            Self::Database(Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("28") || code.starts_with("3D"))
            }
            Self::Database(Error::Configuration(_)) => true,
            Self::Database(_) | Self::Migration(_) | Self::Randomness(_) => false,
            Self::InUse(_)
            | Self::Linked { .. }
            | Self::File { .. }
            | Self::OtherKey(_)
            | Self::KeyFile { .. }
            | Self::Encoding(_)
            | Self::NoKey => true,
        }
    }
}

/// Why the database did not do what it was asked for.
#[derive(Debug, ThisError)]
pub(crate) enum DatabaseError {
    /// It has not answered others, and is not asked until it does.
    #[error("the database does not answer")]
    Down,
    /// It answers others, as many as it can. Nothing was asked.
    #[error("the database is busy")]
    Busy,
    /// It took too long. Whether it was done is not known.
    #[error("the database took too long")]
    TimedOut,
    /// Something was deleted, and is still in the log.
    #[error(
        "another process reads the SQLite file, so that its log (-wal) still holds what was erased: end that process, then erase again"
    )]
    HeldBack,
    /// A row that no connector wrote.
    #[error("the database holds what cannot be: {0}")]
    Corrupt(String),
    /// What the database says.
    #[error(transparent)]
    Sqlx(#[from] Error),
    /// The work panicked.
    #[error("database work panicked")]
    Panicked,
}

/// What a failure tells of the database's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symptom {
    /// It was asked, and said no.
    Nothing,
    /// Somebody held for too long what was wanted.
    Lock,
    /// It does not answer, not in time, or cannot do its work.
    Illness,
}

impl DatabaseError {
    /// Whether something of what was asked cannot be, so that asking for less may help.
    pub(crate) fn is_refusal(&self, engine: Engine) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Sqlx(Error::Database(_))) && self.symptom(engine) != Symptom::Illness
    }

    /// Whether it tells of the connection, and so of others that are as old.
    pub(super) fn is_of_the_connection(&self) -> bool {
        match self {
            Self::Sqlx(Error::Io(_) | Error::Protocol(_)) => true,
            // The server stops, or has become one that only reads.
            Self::Sqlx(Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("57P") || code == "25006")
            }
            _ => false,
        }
    }

    pub(super) fn symptom(&self, engine: Engine) -> Symptom {
        match (self, engine) {
            (Self::TimedOut, _) => Symptom::Illness,
            (
                Self::Sqlx(
                    Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::WorkerCrashed,
                ),
                _,
            ) => Symptom::Illness,
            (Self::Sqlx(Error::Database(error)), Engine::Sqlite) => sqlite_symptom(&error.code().unwrap_or_default()),
            (Self::Sqlx(Error::Database(error)), Engine::Postgres) => {
                postgres_symptom(&error.code().unwrap_or_default())
            }
            _ => Symptom::Nothing,
        }
    }
}

/// By the primary result code, which is the lowest byte of the one that is told.
fn sqlite_symptom(code: &str) -> Symptom {
    match code.parse::<u32>().map(|code| code & 0xff) {
        // BUSY, LOCKED: it is the whole file that somebody holds. READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
        Ok(5 | 6 | 8 | 10 | 11 | 13 | 14 | 26) => Symptom::Illness,
        _ => Symptom::Nothing,
    }
}

/// By the SQLSTATE.
fn postgres_symptom(code: &str) -> Symptom {
    // Connection trouble, not let in, the database gone, no resources, an operator's or a time-out's doing, the system, the server.
    const CLASSES: [&str; 7] = ["08", "28", "3D", "53", "57", "58", "XX"];
    match code {
        "55P03" | "40P01" => Symptom::Lock, // lock_timeout, deadlock
        "25006" => Symptom::Illness,        // it only reads: it is not the primary any more, or its disk is full
        _ if CLASSES.iter().any(|class| code.starts_with(class)) => Symptom::Illness,
        _ => Symptom::Nothing,
    }
}

/// Says what in a row cannot be.
pub(crate) fn corrupt(what: impl Display) -> DatabaseError {
    DatabaseError::Corrupt(what.to_string())
}
