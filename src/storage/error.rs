//! Errors of opening a database and of using an open one, and what an error says about the database's health.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

use sqlx::Error;
use sqlx::migrate::MigrateError;
use thiserror::Error as ThisError;

use super::opening::START_TIMEOUT;
use super::{Engine, Step};
use crate::cause::file_error;
use crate::digest::HashKeyError;

/// The SQLSTATE of a server that is read-only.
const READ_ONLY: &str = "25006";

/// Why a database cannot be opened.
#[derive(Debug, ThisError)]
pub enum StorageError {
    #[error("storage.url: {0} is in use by another connector: only one process at a time may use a SQLite file")]
    InUse(String),
    /// The file has several names (hard links), each with its own lock and its own log.
    #[error(
        "storage.url: {path} has {links} names (hard links), and a process that opens the file under another name sees neither the \
         lock nor the log of this one: find the other names with `find -samefile`, and remove them", path = .path.display()
    )]
    Linked { path: PathBuf, links: u64 },
    #[error("storage.url: {path}: {what}", path = .path.display(), what = file_error(.path, .error))]
    File { path: PathBuf, error: io::Error },
    /// The database was created with another hash key. Under a different key, no row can be found.
    #[error("security.hash_key: {0} was made with another hash key: restore that key, or start with a new database")]
    OtherKey(String),
    #[error("security.hash_key: {path}: {error}")]
    KeyFile { path: String, error: HashKeyError },
    #[error("storage.url: the database's encoding is {0}, but must be UTF8")]
    Encoding(String),
    /// No hash key is configured. With PostgreSQL it is never generated, since every connector needs the same key.
    #[error("security.hash_key: is required with PostgreSQL")]
    NoKey,
    #[error("storage.url: {0}: no connector database found")]
    NoDatabase(String),
    #[error(
        "storage.url: {database}: no answer within {limit} s, at this step: {step}{error}",
        limit = START_TIMEOUT.as_secs(),
        error = .error.as_ref().map(|error| format!("; the last error: {error}")).unwrap_or_default()
    )]
    TimedOut {
        database: String,
        step: Step,
        /// The error of the last failed attempt, if one has failed.
        error: Option<String>,
    },
    #[error(
        "storage.url: {0} was made by another build of the connector, and its schema is not the one of this build: export its \
         directory with that build, and import it into a new database"
    )]
    OtherSchema(String),
    #[error("cannot create a hash key: no random bytes from the operating system: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error("storage.url: {0}")]
    Database(#[from] Error),
    #[error("storage.url: {0}")]
    Migration(#[from] MigrateError),
}

impl StorageError {
    /// Whether another start with the same configuration would fail in the same way.
    pub fn is_misconfiguration(&self) -> bool {
        match self {
            Self::Database(Error::Configuration(_)) => true,
            Self::Migration(MigrateError::Dirty(_)) => true,
            Self::Database(_) | Self::Migration(_) => self.code().is_some_and(|code| is_permanent(&code)),
            Self::TimedOut { .. } | Self::Randomness(_) => false,
            Self::InUse(_)
            | Self::NoDatabase(_)
            | Self::Linked { .. }
            | Self::File { .. }
            | Self::OtherKey(_)
            | Self::OtherSchema(_)
            | Self::KeyFile { .. }
            | Self::Encoding(_)
            | Self::NoKey => true,
        }
    }

    /// Whether the same attempt may succeed later. If so, the start tries again.
    pub(super) fn is_transient(&self) -> bool {
        match self.cause() {
            Some(Error::Io(_) | Error::PoolTimedOut) => true,
            _ => self.code().is_some_and(|code| is_transient_code(&code)),
        }
    }

    /// The error's message without the name of the setting.
    pub(super) fn message(&self) -> String {
        let message = match self {
            Self::Database(error) => error.to_string(),
            Self::Migration(error) => error.to_string(),
            other => other.to_string(),
        };
        let hint =
            if self.code().as_deref() == Some(READ_ONLY) { ": it is a standby; set the primary's address" } else { "" };
        format!("{message}{hint}")
    }

    fn cause(&self) -> Option<&Error> {
        match self {
            Self::Database(error)
            | Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => Some(error),
            _ => None,
        }
    }

    /// The database's error code: a SQLSTATE if it has five characters, otherwise a SQLite result code.
    fn code(&self) -> Option<String> {
        Some(self.cause()?.as_database_error()?.code()?.into_owned())
    }
}

/// PostgreSQL: authentication failed, no such database, missing privileges, or tables of another program. SQLite:
/// tables of another program, a damaged file, or not a database.
fn is_permanent(code: &str) -> bool {
    match code.len() {
        5 => ["28", "3D", "3F", "42"].iter().any(|class| code.starts_with(class)),
        _ => matches!(primary(code), Some(1 | 11 | 26)),
    }
}

/// The server is starting or stopping, has no free connection, is a read-only standby, or another connection holds a
/// lock.
fn is_transient_code(code: &str) -> bool {
    match code.len() {
        5 => code.starts_with("57P") || ["53300", READ_ONLY, "55P03", "40P01"].contains(&code),
        _ => matches!(primary(code), Some(5 | 6)),
    }
}

/// The primary result code of SQLite: the lowest byte of the extended code.
fn primary(code: &str) -> Option<u32> {
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

/// Errors of an open database.
#[derive(Debug, ThisError)]
pub(crate) enum DatabaseError {
    /// The breaker is open: the database does not answer, and the request was not sent.
    #[error("the database does not answer")]
    Down,
    /// The database answers, but has more requests than it can serve in time. This one was not sent.
    #[error("the database is busy")]
    Busy,
    /// The time limit has passed. The work may or may not have been done.
    #[error("the database took too long")]
    TimedOut,
    /// Erased data is still in the write-ahead log, because another process reads the file.
    #[error(
        "another process reads the SQLite file, so its log (-wal) still contains erased data: end that process, then erase again"
    )]
    LogInUse,
    /// A row holds values that no connector writes.
    #[error("invalid data in the database: {0}")]
    Corrupt(String),
    #[error(transparent)]
    Sqlx(#[from] Error),
    /// An error of the connection that records in a SQLite file.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    #[error("a database task panicked")]
    Panicked,
}

/// What an error says about the database's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Symptom {
    /// Nothing: the database has answered, with an error.
    None,
    /// Another connection held a lock for too long.
    Lock,
    /// The database does not answer, is too slow, or cannot do its work.
    Unhealthy,
}

impl DatabaseError {
    /// Whether the database refused part of the work, so that a smaller part of it may succeed.
    pub(crate) fn is_refusal(&self, engine: Engine) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Sqlx(Error::Database(_)) | Self::Sqlite(_))
            && self.symptom(engine) != Symptom::Unhealthy
    }

    /// Whether the connection is broken. Then other connections that are as old are probably broken too.
    pub(super) fn is_connection_error(&self) -> bool {
        match self {
            Self::Sqlx(Error::Io(_) | Error::Protocol(_)) => true,
            // The server is stopping, or has become read-only.
            Self::Sqlx(Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("57P") || code == READ_ONLY)
            }
            _ => false,
        }
    }

    pub(super) fn symptom(&self, engine: Engine) -> Symptom {
        match (self, engine) {
            (Self::TimedOut, _) => Symptom::Unhealthy,
            (
                Self::Sqlx(
                    Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::WorkerCrashed,
                ),
                _,
            ) => Symptom::Unhealthy,
            (Self::Sqlx(Error::Database(error)), Engine::Sqlite) => {
                error.code().and_then(|code| primary(&code)).map_or(Symptom::None, sqlite_symptom)
            }
            (Self::Sqlite(error), _) => error
                .sqlite_error()
                .map_or(Symptom::None, |error| sqlite_symptom(error.extended_code.unsigned_abs() & 0xff)),
            (Self::Sqlx(Error::Database(error)), Engine::Postgres) => {
                postgres_symptom(&error.code().unwrap_or_default())
            }
            _ => Symptom::None,
        }
    }
}

fn sqlite_symptom(primary: u32) -> Symptom {
    match primary {
        // BUSY and LOCKED, since a lock covers the whole file. READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB.
        5 | 6 | 8 | 10 | 11 | 13 | 14 | 26 => Symptom::Unhealthy,
        _ => Symptom::None,
    }
}

fn postgres_symptom(code: &str) -> Symptom {
    // Connection failure, authentication failure, no such database, no resources, cancelled by an operator or a
    // timeout, system error, internal error.
    const CLASSES: [&str; 7] = ["08", "28", "3D", "53", "57", "58", "XX"];
    match code {
        "55P03" | "40P01" => Symptom::Lock, // lock_timeout, deadlock
        READ_ONLY => Symptom::Unhealthy,    // no longer the primary, or its disk is full
        _ if CLASSES.iter().any(|class| code.starts_with(class)) => Symptom::Unhealthy,
        _ => Symptom::None,
    }
}

/// An error for a row with an invalid value; `message` names the column or the problem.
pub(crate) fn corrupt(message: impl Display) -> DatabaseError {
    DatabaseError::Corrupt(message.to_string())
}
