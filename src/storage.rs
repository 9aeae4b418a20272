//! The database under the ledger: where it is, who may write to it, which schema it has, and under which key it hashes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, query, query_scalar};
use thiserror::Error;

use crate::digest::{HashKey, HashKeyError};

/// How many connections read at once. Reading is quick, and SQLite reads in the calling threads.
const READERS: u32 = 4;
/// How long to wait for a lock or a connection: well within a request's deadline.
const PATIENCE: Duration = Duration::from_millis(500);
/// What the database says of the key that it was made with.
const KEY_CHECK: &str = "hash key check";

/// Why a database cannot be used.
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

/// A SQLite file that this process alone writes to.
#[derive(Debug)]
pub struct SqliteDatabase {
    options: SqliteConnectOptions,
    readers: SqlitePool,
    hash_key: HashKey,
    /// Held for as long as the database is open.
    _lock: File,
}

impl SqliteDatabase {
    /// Opens the file, or makes it with its folder, for its owner alone; brings its schema up to date; finds or makes its hash key.
    ///
    /// # Errors
    /// When another process has it, it belongs to another hash key, or it cannot be used.
    pub async fn open(path: &Path, hash_key: Option<HashKey>) -> Result<Self, StorageError> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(file_error(folder))?;
        }
        let lock = lock(&beside(path, "lock"), path)?;
        // The key comes first: a database without one would be of no use to whoever finds it after a crash.
        let hash_key = match hash_key {
            Some(hash_key) => hash_key,
            None => key_beside(&beside(path, "key"), !path.exists())?,
        };
        // Its owner's alone, as are the files that SQLite makes beside it: they take its mode.
        private().open(path).map_err(file_error(path))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .busy_timeout(PATIENCE)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        migrations().run_direct(None, &mut connection, false).await?;
        check_key(&mut connection, &hash_key, path).await?;
        connection.close().await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(PATIENCE)
            .connect_with(options.clone().read_only(true))
            .await?;
        Ok(Self { options, readers, hash_key, _lock: lock })
    }

    /// Connections that read.
    #[must_use]
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The connection that writes: there is to be one.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        self.options.connect().await
    }

    /// The key under which this database's digests were made.
    #[must_use]
    pub fn hash_key(&self) -> &HashKey {
        &self.hash_key
    }
}

/// The schema, step by step. Steps only ever add, and unknown ones are let be: a release runs on the next one's schema.
fn migrations() -> Migrator {
    let steps = [(1, "ledger", include_str!("../migrations/sqlite/0001_ledger.sql"))];
    let steps = steps.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, AssertSqlSafe(sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.into());
    migrator.set_ignore_missing(true);
    migrator
}

/// `data/connector.db` → `data/connector.db.lock`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// To create or write a file that only its owner can read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(0o600);
    options
}

fn lock(lock: &Path, database: &Path) -> Result<File, StorageError> {
    let file = private().open(lock).map_err(file_error(lock))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse(database.display().to_string())),
        Err(TryLockError::Error(error)) => Err(file_error(lock)(error)),
    }
}

/// The key in the file beside the database, which only its owner can read; made with a new database.
fn key_beside(path: &Path, is_new: bool) -> Result<HashKey, StorageError> {
    if is_new && !path.exists() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        // Written aside and then renamed, so that a crash leaves a whole key or none.
        let aside = beside(path, "new");
        let mut file = private().truncate(true).open(&aside).map_err(file_error(&aside))?;
        file.write_all(BASE64_STANDARD.encode(bytes).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&aside, path))
            .map_err(file_error(path))?;
    }
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    HashKey::from_base64(text.trim()).map_err(|error| StorageError::KeyFile { path: path.display().to_string(), error })
}

/// A new database takes the key; an older one must have been made with it.
async fn check_key(connection: &mut SqliteConnection, hash_key: &HashKey, path: &Path) -> Result<(), StorageError> {
    let check = hash_key.check_value();
    query("INSERT INTO property VALUES (?, ?) ON CONFLICT DO NOTHING")
        .bind(KEY_CHECK)
        .bind(check.as_slice())
        .execute(&mut *connection)
        .await?;
    let stored: Vec<u8> =
        query_scalar("SELECT value FROM property WHERE name = ?").bind(KEY_CHECK).fetch_one(connection).await?;
    if stored == check { Ok(()) } else { Err(StorageError::OtherKey(path.display().to_string())) }
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> StorageError {
    let path = path.display().to_string();
    move |error| StorageError::File { path: path.clone(), error }
}
