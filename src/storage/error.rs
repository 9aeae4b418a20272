//! Why a database cannot be opened, and why an open one did not do what it was asked for.

use std::fmt::Display;
use std::io;

use sqlx::migrate::MigrateError;
use thiserror::Error;

use crate::digest::HashKeyError;

/// Why a database cannot be opened.
#[derive(Debug, Error)]
pub enum StorageError {
    /// Another process has it.
    #[error("storage.url: {0} is in use by another connector: one process at a time writes to a SQLite file")]
    InUse(String),
    /// A file or folder cannot be used.
    #[error("storage.url: {path}: {error}")]
    File {
        /// The file or folder.
        path: String,
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
    Database(#[from] sqlx::Error),
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
            Self::Database(sqlx::Error::Database(error)) => {
                error.code().is_some_and(|code| code.starts_with("28") || code.starts_with("3D"))
            }
            Self::Database(sqlx::Error::Configuration(_)) => true,
            Self::Database(_) | Self::Migration(_) | Self::Randomness(_) => false,
            Self::InUse(_)
            | Self::File { .. }
            | Self::OtherKey(_)
            | Self::KeyFile { .. }
            | Self::Encoding(_)
            | Self::NoKey => true,
        }
    }
}

/// Why the database did not do what it was asked for.
#[derive(Debug, Error)]
pub(crate) enum DatabaseError {
    /// It has not answered others, and is not asked until it does.
    #[error("the database does not answer")]
    Down,
    /// It took too long. Whether it was done is not known.
    #[error("the database took too long")]
    TimedOut,
    /// A row that no connector wrote.
    #[error("the database holds what cannot be: {0}")]
    Corrupt(String),
    /// What the database says.
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    /// The work panicked.
    #[error("database work panicked")]
    Panicked,
}

impl DatabaseError {
    /// Whether something of what was asked cannot be, so that asking for less may help.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Corrupt(_) | Self::Sqlx(sqlx::Error::Database(_))) && !self.is_ill_health()
    }

    /// Whether it is the database's health that this tells of, not the statement's.
    pub(super) fn is_ill_health(&self) -> bool {
        use sqlx::Error;
        match self {
            Self::TimedOut => true,
            Self::Sqlx(
                Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolTimedOut | Error::WorkerCrashed,
            ) => true,
            // Shutting down or starting, no connection left, no resources, or a time-out that the server set.
            Self::Sqlx(Error::Database(error)) => {
                error.code().is_some_and(|code| ["57", "53", "08"].iter().any(|class| code.starts_with(class)))
            }
            _ => false,
        }
    }
}

/// Says what in a row cannot be.
pub(crate) fn corrupt(what: impl Display) -> DatabaseError {
    DatabaseError::Corrupt(what.to_string())
}
