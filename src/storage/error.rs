//! Why a database cannot be opened, and why an open one did not do what it was asked for.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use sqlx::Error;
use sqlx::migrate::MigrateError;
use thiserror::Error as ThisError;

use super::opening::START;
use super::{Engine, Step};
use crate::cause::file_error;
use crate::digest::HashKeyError;

/// The SQLSTATE of a server that only reads.
const READ_ONLY: &str = "25006";

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
    #[error("storage.url: {path}: {what}", path = .path.display(), what = file_error(.path, .error))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was made with another hash key, without which nothing in it can be found.
    #[error("security.hash_key: {0} was made with another hash key: restore it, or start with a new database")]
    OtherKey(String),
    /// The key file contains no key.
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
    /// There is none yet, and none may be made.
    #[error("storage.url: {0}: there is no connector's database")]
    NoDatabase(String),
    /// It did not answer in time.
    #[error(
        "storage.url: {database}: no answer within {limit} s, at this step: {step}{error}",
        limit = START.as_secs(),
        error = .error.as_ref().map(|error| format!("; the last error: {error}")).unwrap_or_default()
    )]
    TimedOut {
        /// The database, without user and password.
        database: String,
        /// What it was asked for last.
        step: Step,
        /// Why an attempt failed, if one did.
        error: Option<String>,
    },
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
            Self::Database(Error::Configuration(_)) => true,
            Self::Migration(MigrateError::VersionMismatch(_) | MigrateError::Dirty(_)) => true,
            Self::Database(_) | Self::Migration(_) => self.code().is_some_and(|code| lasts(&code)),
            Self::TimedOut { .. } | Self::Randomness(_) => false,
            Self::InUse(_)
            | Self::NoDatabase(_)
            | Self::Linked { .. }
            | Self::File { .. }
            | Self::OtherKey(_)
            | Self::KeyFile { .. }
            | Self::Encoding(_)
            | Self::NoKey => true,
        }
    }

    /// Whether the database may do the same at another time: a start then tries again.
    pub(super) fn may_pass(&self) -> bool {
        match self.cause() {
            Some(Error::Io(_) | Error::PoolTimedOut) => true,
            _ => self.code().is_some_and(|code| passes(&code)),
        }
    }

    /// What it says, without the setting's name.
    pub(super) fn words(&self) -> String {
        let words = match self {
            Self::Database(error) => error.to_string(),
            Self::Migration(error) => error.to_string(),
            other => other.to_string(),
        };
        let hint = if self.code().as_deref() == Some(READ_ONLY) { ": it is a standby; name the primary" } else { "" };
        format!("{words}{hint}")
    }

    fn cause(&self) -> Option<&Error> {
        match self {
            Self::Database(error)
            | Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Some(error),
            _ => None,
        }
    }

    /// The code that the database gave: five characters are a SQLSTATE, fewer a result code of SQLite.
    fn code(&self) -> Option<String> {
        Some(self.cause()?.as_database_error()?.code()?.into_owned())
    }
}

/// Not let in, no such database, no right to do it or another program's tables; with SQLite another program's tables, a damaged file, or no
/// database.
fn lasts(code: &str) -> bool {
    match code.len() {
        5 => ["28", "3D", "3F", "42"].iter().any(|class| code.starts_with(class)),
        _ => matches!(primary(code), Some(1 | 11 | 26)),
    }
}

/// The server is starting or stopping, has no connection to spare, only reads because it is a standby, or another connection holds a lock.
fn passes(code: &str) -> bool {
    match code.len() {
        5 => code.starts_with("57P") || ["53300", READ_ONLY, "55P03", "40P01"].contains(&code),
        _ => matches!(primary(code), Some(5 | 6)),
    }
}

/// The primary result code of SQLite, which is the lowest byte of the one that is told.
fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
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
                error.code().is_some_and(|code| code.starts_with("57P") || code == READ_ONLY)
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

fn sqlite_symptom(code: &str) -> Symptom {
    match primary(code) {
        // BUSY, LOCKED: it is the whole file that somebody holds. READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
        Some(5 | 6 | 8 | 10 | 11 | 13 | 14 | 26) => Symptom::Illness,
        _ => Symptom::Nothing,
    }
}

/// By the SQLSTATE.
fn postgres_symptom(code: &str) -> Symptom {
    // Connection trouble, not let in, the database gone, no resources, an operator's or a time-out's doing, the system, the server.
    const CLASSES: [&str; 7] = ["08", "28", "3D", "53", "57", "58", "XX"];
    match code {
        "55P03" | "40P01" => Symptom::Lock, // lock_timeout, deadlock
        READ_ONLY => Symptom::Illness,      // it only reads: it is not the primary any more, or its disk is full
        _ if CLASSES.iter().any(|class| code.starts_with(class)) => Symptom::Illness,
        _ => Symptom::Nothing,
    }
}

/// Says what in a row cannot be.
pub(crate) fn corrupt(what: impl Display) -> DatabaseError {
    DatabaseError::Corrupt(what.to_string())
}
