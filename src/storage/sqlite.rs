//! A SQLite file that this process alone writes to: its folder, its lock, its key, and how connections to it behave.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::time::Duration;

use sqlx::Error;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};

use super::schema::Content;
use super::{ACQUIRE, OFFICE, Pools, RECORD, SHOPPERS, StorageError, quietly, with_settings};
use crate::digest::HashKey;

/// How many connections read at once. Reading is quick.
const READERS: u32 = 4;

/// What a statement of SQLite reads rows from that come as one JSON array, its first parameter: each is a `value`, and `value ->> 0` its first column.
/// MATERIALIZED, since `json_each` itself writes a row out as text again for each column that is asked for.
pub(crate) const JSON_ROWS: &str =
    "(WITH item (value) AS MATERIALIZED (SELECT value FROM json_each($1)) SELECT value FROM item)";

/// Said to every connection. The time to wait for a lock comes first, since going over to WAL may need one.
const SETTINGS: &str =
    "PRAGMA busy_timeout = 500; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON";

/// Said to the connection that writes as well: to keep in memory what it writes to again and again, 16 MiB of it, and to put what has
/// gathered in the log into the file only when that is 16 MiB. And to keep in memory the pages as they were before a statement, for the case
/// that it fails half way: of a large batch they would be written to a file of their own, for nothing. What is deleted is overwritten, so that
/// an erased name is not in the file any more.
const WRITER: &str = "PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4096; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = ON";

/// A file that this process has: its path wherever links lead, its lock, held for as long as that file is open, and its hash key.
pub(super) struct Taken {
    pub(super) path: PathBuf,
    pub(super) lock: File,
    pub(super) hash_key: HashKey,
}

/// Takes the file, or makes it with its folder, for its owner alone; finds or makes its hash key.
pub(super) fn take(path: &Path, hash_key: Option<HashKey>) -> Result<Taken, StorageError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(file_error(path))?;
    // Wherever links lead: whoever comes by another way meets the same lock and the same key.
    let folder = folder.canonicalize().map_err(file_error(folder))?;
    let path = &folder.join(path.file_name().unwrap_or_default());
    let path = &path.canonicalize().unwrap_or_else(|_| path.clone());
    let lock = lock(&beside(path, "lock"), path)?;
    match path.metadata() {
        Ok(file) if file.nlink() > 1 => return Err(StorageError::Linked { path: path.clone(), links: file.nlink() }),
        _ => {}
    }
    // The key comes first: a database without one would be of no use to whoever finds it after a crash.
    let hash_key = match hash_key {
        Some(hash_key) => hash_key,
        None => key_beside(&beside(path, "key"), is_new(path))?,
    };
    // Its owner's alone, as are the files that SQLite makes beside it: they take its mode.
    private().open(path).map_err(file_error(path))?;
    Ok(Taken { path: path.clone(), lock, hash_key })
}

/// Whether there is no database yet. SQLite makes an empty file one.
pub(super) fn is_new(path: &Path) -> bool {
    path.metadata().map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |metadata| metadata.len() == 0)
}

/// How to connect to the file of this absolute path. The `Any` driver takes nothing but a URL, whose path is decoded again: so all that is
/// special anywhere in a URL is encoded.
pub(super) fn options(path: &Path) -> Result<AnyConnectOptions, Error> {
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => url.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => url.push(char::from(*byte)),
            byte => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Ok(quietly(url.parse()?))
}

/// Those that read, and the one that writes. Of carts, only shoppers' apps read and write. Tries for as long as no connection is to be had: to
/// be called under a deadline.
pub(super) async fn pools(options: &AnyConnectOptions, content: Content) -> Result<Pools, Error> {
    let pool = async |size, patience, settings| loop {
        let pool = AnyPoolOptions::new().max_connections(size).acquire_timeout(patience).test_before_acquire(false);
        let pool = pool.acquire_slow_threshold(Duration::MAX); // a wait is no news: it ends as an error or it does not
        let pool = with_settings(pool.idle_timeout(None).max_lifetime(None), settings);
        match pool.connect_with(options.clone()).await {
            // A start on a busy machine can wait longer for its first connection than a scan could.
            Err(Error::PoolTimedOut) => {}
            opened => break opened,
        }
    };
    if content == Content::Carts {
        let writes = pool(1, SHOPPERS, &[SETTINGS, WRITER]).await?;
        let reads = pool(READERS, SHOPPERS, &[SETTINGS]).await?;
        return Ok(Pools {
            reads: reads.clone(),
            writes: writes.clone(),
            office_reads: reads.clone(),
            office_writes: writes.clone(),
            shopper_reads: reads,
            shopper_writes: writes,
        });
    }
    // Records wait for a sweep or a change to end, which takes milliseconds; a change waits for its turn.
    let writes = pool(1, RECORD, &[SETTINGS, WRITER]).await?;
    let reads = pool(READERS, ACQUIRE, &[SETTINGS]).await?;
    let office_reads = pool(1, OFFICE, &[SETTINGS]).await?;
    let shopper_reads = pool(1, SHOPPERS, &[SETTINGS]).await?;
    let (office_writes, shopper_writes) = (writes.clone(), writes.clone());
    Ok(Pools { reads, writes, office_reads, office_writes, shopper_reads, shopper_writes })
}

/// The file of the carts, wherever links to the database lead.
pub(super) fn carts_beside(path: &Path) -> PathBuf {
    beside(&path.canonicalize().unwrap_or_else(|_| path.to_owned()), "carts")
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

fn file_error(path: &Path) -> impl Fn(io::Error) -> StorageError {
    let path = path.to_owned();
    move |error| StorageError::File { path: path.clone(), error }
}
