//! A SQLite file that only this process uses: its folder, lock and hash key, its connections, its size on the disk, and
//! the removal of erased data.
//!
//! SQLite overwrites deleted content with zeros (`secure_delete`), but only in the file: the write-ahead log keeps
//! older versions of the pages until it is overwritten or truncated. Unused space of a page that was split may also
//! still contain a copy of a row.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rusqlite::{Connection, OpenFlags};
use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, Error, Executor as _, Row as _, query};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use super::opening::Content;
use super::{
    ACQUIRE_TIMEOUT, ADMIN_TIMEOUT, Database, DatabaseError, Engine, Pools, RECORD_TIMEOUT, SHOPPER_TIMEOUT,
    StorageError, with_settings, without_statement_log,
};
use crate::digest::HashKey;

/// The number of connections for reading. Reads are fast, so a few are enough.
const READERS: u32 = 4;

/// The source of an `INSERT … SELECT` in SQLite whose rows come as one JSON array, its first parameter. Each row is a
/// `value`, and `value ->> 0` is its first column. MATERIALIZED, since `json_each` would otherwise convert a row to
/// text again for each column.
pub(crate) const JSON_ROWS: &str =
    "(WITH item (value) AS MATERIALIZED (SELECT value FROM json_each($1)) SELECT value FROM item)";

/// Sent on every new connection. `busy_timeout` comes first, since the switch to WAL may wait for a lock.
const SETTINGS: &str =
    "PRAGMA busy_timeout = 500; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON";

/// Also sent on the connection that writes: a cache of 16 MiB for pages that are written often; a checkpoint only after
/// 16 MiB of log; the statement journal in memory, which a large batch would otherwise write to a file of its own; and
/// overwriting of deleted content, so that erased names do not remain in the file.
const WRITER: &str = "PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4096; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON";

/// How long [`Database::measure_disk`] may take.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);

/// A longer log is truncated as soon as no reader needs it. Twice the size that a log reaches without long-running
/// readers.
const LONG_LOG: u64 = 32 << 20;
/// The largest file that is rewritten as a whole, which takes a fraction of the time that a record may wait.
const SMALL_FILE: u64 = 16 << 20;
/// How long to wait for readers before truncating the log fails.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

/// A file that this process has locked: its path with links resolved, its lock, which is held until `lock` is closed,
/// and its hash key.
pub(super) struct LockedFile {
    pub(super) path: PathBuf,
    pub(super) lock: File,
    pub(super) hash_key: HashKey,
}

/// Locks the file, which only its owner can read, and creates it and its folder if needed. Reads its hash key, or
/// creates one.
pub(super) fn lock_file(path: &Path, hash_key: Option<HashKey>) -> Result<LockedFile, StorageError> {
    // Links are resolved, so that a process that uses another path to the file finds the same lock and the same key.
    let path = &resolved(path).map_err(file_error(path))?;
    let lock = lock(&beside(path, "lock"), path)?;
    match path.metadata() {
        Ok(file) if file.nlink() > 1 => return Err(StorageError::Linked { path: path.clone(), links: file.nlink() }),
        _ => {}
    }
    // The key is created before the database: after a crash between the two, a database without its key would be
    // unusable.
    let hash_key = match hash_key {
        Some(hash_key) => hash_key,
        None => key_beside(&beside(path, "key"), is_new(path))?,
    };
    // Readable by its owner only. The files that SQLite creates beside it get the same mode.
    private().open(path).map_err(file_error(path))?;
    Ok(LockedFile { path: path.clone(), lock, hash_key })
}

/// Whether there is no database yet. An empty file counts as none, since SQLite initializes it.
pub(super) fn is_new(path: &Path) -> bool {
    path.metadata().map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |metadata| metadata.len() == 0)
}

/// The connection options for the file with this absolute path. The `Any` driver accepts only a URL and decodes its
/// path, so every character that is special in a URL is percent-encoded.
pub(super) fn options(path: &Path) -> Result<AnyConnectOptions, Error> {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => url.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(without_statement_log(url.parse()?))
}

/// Opens the pools: several connections for reading and one for writing. Carts are only read and written by shoppers'
/// apps. Retries while no connection can be opened in time, so the caller must set a deadline.
pub(super) async fn pools(options: &AnyConnectOptions, content: Content) -> Result<Pools, Error> {
    let pool = async |size, time_limit, settings| loop {
        let pool = AnyPoolOptions::new().max_connections(size).acquire_timeout(time_limit).test_before_acquire(false);
        let pool = pool.acquire_slow_threshold(Duration::MAX); // not logged: a wait that is too long ends as an error
        let pool = with_settings(pool.idle_timeout(None).max_lifetime(None), settings);
        match pool.connect_with(options.clone()).await {
            // A start on a busy machine can wait longer for its first connection than a scan can.
            Err(Error::PoolTimedOut) => {}
            opened => break opened,
        }
    };
    if content == Content::Carts {
        let writes = pool(1, SHOPPER_TIMEOUT, &[SETTINGS, WRITER]).await?;
        let reads = pool(READERS, SHOPPER_TIMEOUT, &[SETTINGS]).await?;
        return Ok(Pools {
            reads: reads.clone(),
            writes: writes.clone(),
            admin_reads: reads.clone(),
            admin_writes: writes.clone(),
            shopper_reads: reads,
            shopper_writes: writes,
        });
    }
    // A record may wait for one sweep or change, which takes milliseconds. A change waits for the write permit.
    let writes = pool(1, RECORD_TIMEOUT, &[SETTINGS, WRITER]).await?;
    let reads = pool(READERS, ACQUIRE_TIMEOUT, &[SETTINGS]).await?;
    let admin_reads = pool(1, ADMIN_TIMEOUT, &[SETTINGS]).await?;
    let shopper_reads = pool(1, SHOPPER_TIMEOUT, &[SETTINGS]).await?;
    let (admin_writes, shopper_writes) = (writes.clone(), writes.clone());
    Ok(Pools { reads, writes, admin_reads, admin_writes, shopper_reads, shopper_writes })
}

/// Opens the connection that records, for the thread that owns it.
pub(crate) fn open_recorder(path: &Path) -> Result<Connection, DatabaseError> {
    // One thread uses it, so SQLite needs no lock of its own.
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.execute_batch(SETTINGS)?;
    connection.execute_batch(WRITER)?;
    Ok(connection)
}

/// The file of the carts, beside the database.
pub(super) fn carts_beside(path: &Path) -> PathBuf {
    beside(path, "carts")
}

/// The path with links resolved, even if there is no file yet. Its folder is created if needed.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    match (path.canonicalize(), path.read_link()) {
        (Err(error), Ok(target)) if error.kind() == io::ErrorKind::NotFound => resolved(&folder(path).join(target)),
        (Err(error), Err(_)) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder(path))?;
            Ok(folder(path).canonicalize()?.join(path.file_name().unwrap_or_default()))
        }
        (found, _) => found,
    }
}

/// The folder of a file.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `data/connector.db` → `data/connector.db.lock`.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Options to create or write a file that only its owner can read.
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

/// Reads the hash key from the file beside the database, which only its owner can read. Creates it for a new database.
fn key_beside(path: &Path, is_new: bool) -> Result<HashKey, StorageError> {
    if is_new && !path.exists() {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        // Written to a temporary file and then renamed, so that a crash leaves a complete key or none.
        let temporary = beside(path, "new");
        let mut file = private().truncate(true).open(&temporary).map_err(file_error(&temporary))?;
        file.write_all(BASE64_STANDARD.encode(bytes).as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| std::fs::rename(&temporary, path))
            .map_err(file_error(path))?;
    }
    let text = std::fs::read_to_string(path).map_err(file_error(path))?;
    HashKey::from_base64(text.trim()).map_err(|error| StorageError::KeyFile { path: path.display().to_string(), error })
}

fn file_error(path: &Path) -> impl Fn(io::Error) -> StorageError {
    let path = path.to_owned();
    move |error| StorageError::File { path: path.clone(), error }
}

/// The disk usage of a SQLite file, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// The free space that is available to an unprivileged process.
    pub(super) free: u64,
    /// The size of the write-ahead log.
    pub(super) log: u64,
}

impl Database {
    /// Measures the disk usage for the metrics. If that takes too long, they show none.
    pub async fn measure_disk(&self) {
        let database = self.clone();
        // With a time-out: asking for the free space blocks while the disk does not respond.
        let disk = timeout(DISK_TIMEOUT, spawn_blocking(move || database.disk())).await;
        *self.0.disk.lock().unwrap_or_else(PoisonError::into_inner) = disk.ok().and_then(Result::ok).flatten();
    }

    /// The disk usage when it was last measured.
    pub(super) fn measured_disk(&self) -> Option<Disk> {
        *self.0.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the disk usage, which may block. `None` if the database is not a file, or the system does not report the
    /// free space.
    pub(super) fn disk(&self) -> Option<Disk> {
        let path = self.0.path.as_deref()?;
        let system = rustix::fs::statvfs(path).ok()?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let log = std::fs::metadata(log).map_or(0, |log| log.len());
        Some(Disk { free: system.f_bavail.saturating_mul(system.f_frsize), log })
    }

    /// Removes deleted data permanently from a SQLite file and its log. On PostgreSQL, the server's vacuum does this.
    ///
    /// # Errors
    /// When another process keeps reading the file for longer than 10 s.
    pub(crate) async fn purge(&self) -> Result<(), DatabaseError> {
        let (Engine::Sqlite, Some(path)) = (self.0.engine, self.0.path.clone()) else { return Ok(()) };
        let length = spawn_blocking(move || path.metadata().map_or(u64::MAX, |file| file.len())).await;
        if length.is_ok_and(|length| length <= SMALL_FILE) {
            let permits = self.change_permits(ADMIN_TIMEOUT).await?;
            let vacuum = self.run(&self.0.pools.admin_writes, ADMIN_TIMEOUT, None, |connection| {
                Box::pin(async move {
                    let _permits = permits; // held until the work ends, even if the caller has disconnected
                    Ok(connection.execute("VACUUM").await.map(drop)?)
                })
            });
            vacuum.await?;
        }
        let deadline = Instant::now().checked_add(READER_TIMEOUT);
        while !self.truncate_log().await? {
            if deadline.is_none_or(|deadline| Instant::now() > deadline) {
                return Err(DatabaseError::LogInUse);
            }
            sleep(Duration::from_millis(250)).await;
        }
        Ok(())
    }

    /// Truncates the log of a SQLite file if it is unusually long and no reader needs it.
    pub(crate) async fn truncate_long_log(&self) {
        let database = self.clone();
        let disk = spawn_blocking(move || database.disk()).await.ok().flatten();
        if disk.is_some_and(|disk| disk.log > LONG_LOG)
            && let Err(error) = self.truncate_log().await
        {
            tracing::debug!(%error, "cannot truncate the log of the SQLite file");
        }
    }

    /// Truncates the log unless a reader needs it. Returns whether it was truncated.
    async fn truncate_log(&self) -> Result<bool, DatabaseError> {
        self.run(&self.0.pools.admin_reads, ADMIN_TIMEOUT, None, |connection| {
            Box::pin(async move {
                // The passive checkpoint runs beside the writer, so that the second one, which blocks records, is
                // short.
                checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)").await?;
                connection.execute("PRAGMA busy_timeout = 50").await?;
                let is_done = checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)").await;
                connection.execute("PRAGMA busy_timeout = 500").await?;
                is_done
            })
        })
        .await
    }
}

/// Runs a checkpoint. Returns whether it completed.
async fn checkpoint(connection: &mut AnyConnection, statement: &'static str) -> Result<bool, DatabaseError> {
    let row = query::<Any>(statement).fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(0)? == 0)
}
