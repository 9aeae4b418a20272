//! Opens a database under one deadline, from the first connection to the last, and reports every few seconds what it
//! waits for.
//!
//! Transient errors are retried until the deadline. A database with another hash key is refused before its schema is
//! migrated or anything else in it is changed.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use sqlx::any::{Any, AnyConnectOptions};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{
    AnyConnection, AssertSqlSafe, ConnectOptions as _, Connection as _, Error, Executor as _, SqlSafeStr as _, query,
    query_scalar,
};
use tokio::sync::Semaphore;
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};

use super::error::StorageError;
use super::health::{Breaker, QueryPermits, WriteInProgress};
use super::postgres::StaleCutoff;
use super::sqlite::LockedFile;
use super::{Database, Engine, Inner, Location, Pools, Workload, postgres, sqlite};
use crate::clock::later;
use crate::digest::HashKey;

/// How long a start waits for the database, which may be starting at the same time, on a busy machine.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit of one attempt to connect, including TLS and authentication. The next attempt may reach a server that
/// answers.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// How often a start reports that it is still waiting.
const REPORT_INTERVAL: Duration = Duration::from_secs(3);
/// Sent on the connection of a start, so that the server itself ends a statement that waits for a lock, and none is
/// left waiting there.
const LOCK_TIMEOUT: &str = "SET lock_timeout = '5s'";

/// The property that stores the check value of the hash key that the database was created with.
const KEY_CHECK: &str = "hash key check";

/// A report that a start is waiting for its database.
#[derive(Clone, Debug)]
pub struct DatabaseWait {
    /// The database, without user and password.
    pub database: String,
    /// The step that has not completed.
    pub step: Step,
    /// The error of the last attempt, if it has failed.
    pub error: Option<String>,
    /// The time left until the start fails.
    pub left: Duration,
}

/// The steps of opening a database, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// Connecting, including TLS and authentication.
    #[default]
    Connect,
    HashKey,
    Schema,
    /// Opening the connection pools.
    Connections,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::HashKey => "reading its hash key",
            Self::Schema => "migrating its schema",
            Self::Connections => "opening more connections",
        })
    }
}

impl fmt::Display for DatabaseWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, step, error, left } = self;
        write!(f, "the database does not answer yet: {database}: {step}")?;
        if let Some(error) = error {
            write!(f, ": {error}")?;
        }
        write!(f, "; this start fails in {} s", left.as_secs())
    }
}

/// Logs that a start is waiting for the database.
fn log_wait(DatabaseWait { database, step, error, left }: &DatabaseWait) {
    let left = left.as_secs();
    tracing::warn!(%database, %step, error, gives_up_in_s = left, "the database does not answer yet");
}

impl Database {
    /// Opens the database or creates a new one, migrates its schema, and checks its hash key. Logs every few seconds
    /// while it waits.
    ///
    /// # Errors
    /// When another process uses the file, the database was created with another hash key, does not answer within 30 s,
    /// or cannot be used.
    pub async fn open(location: &Location, hash_key: Option<HashKey>) -> Result<Self, StorageError> {
        Self::open_with(location, hash_key, true, log_wait).await
    }

    /// As [`Self::open`]. `may_create` is whether a new database may be created; `report` is called every few seconds
    /// while it waits.
    ///
    /// # Errors
    /// As [`Self::open`], and when the database does not exist and may not be created. Then nothing was changed.
    pub async fn open_with(
        location: &Location,
        hash_key: Option<HashKey>,
        may_create: bool,
        report: fn(&DatabaseWait),
    ) -> Result<Self, StorageError> {
        Self::open_content(location, hash_key, Content::All, may_create, report).await
    }

    /// Opens the database of the carts, for shoppers' apps. With SQLite, it is another file beside this one: a file has
    /// one writer, and no record of a scan must wait for a cart.
    pub async fn open_carts(&self) -> Result<Self, StorageError> {
        let Some(path) = &self.0.path else { return Ok(self.for_shoppers()) };
        let (location, hash_key) = (Location::Sqlite(sqlite::carts_beside(path)), self.hash_key().clone());
        let carts = Self::open_content(&location, Some(hash_key), Content::Carts, true, log_wait).await?;
        Ok(carts.for_shoppers())
    }

    async fn open_content(
        location: &Location,
        hash_key: Option<HashKey>,
        content: Content,
        may_create: bool,
        report: fn(&DatabaseWait),
    ) -> Result<Self, StorageError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let name = location.to_string();
        let (engine, path, options, connections, hash_key, lock) = match location {
            Location::Sqlite(path) if !may_create && sqlite::is_new(path) => {
                return Err(StorageError::NoDatabase(name));
            }
            Location::Sqlite(path) => {
                let LockedFile { path, lock, hash_key } = sqlite::lock_file(path, hash_key)?;
                let options = sqlite::options(&path)?;
                (Engine::Sqlite, Some(path), options, 0, hash_key, Some(lock))
            }
            Location::Postgres { url, connections } => {
                let hash_key = hash_key.ok_or(StorageError::NoKey)?;
                (Engine::Postgres, None, postgres::options(url)?, *connections, hash_key, None)
            }
        };
        let stale_cutoff = StaleCutoff::default();
        let opening = Opening { engine, content, options, connections, hash_key, name, may_create, stale_cutoff };
        let pools = opening.run(report).await?;
        let Opening { options, hash_key, stale_cutoff, .. } = opening;
        let inner = Inner {
            engine,
            path,
            options,
            query_permits: QueryPermits::new(pools.reads.options().get_max_connections()),
            pools,
            breaker: Breaker::default(),
            opened: Arc::default(),
            stale_cutoff,
            hash_key,
            change_permit: Arc::new(Semaphore::new(1)),
            write_permit: Arc::new(Semaphore::new(1)),
            write_in_progress: WriteInProgress::default(),
            disk: Mutex::default(),
            _lock: lock,
        };
        Ok(Self(Arc::new(inner), Workload::Admin))
    }
}

/// The parameters of opening a database.
struct Opening {
    engine: Engine,
    content: Content,
    options: AnyConnectOptions,
    /// The maximum number of connections to PostgreSQL.
    connections: u32,
    hash_key: HashKey,
    /// The location without user and password.
    name: String,
    /// Whether a new database may be created.
    may_create: bool,
    stale_cutoff: StaleCutoff,
}

/// The current step, and the error of the previous attempt.
#[derive(Default)]
struct Progress(Mutex<(Step, Option<String>)>);

impl Progress {
    fn at(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
    }

    fn failed(&self, error: &StorageError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(error.message());
    }

    fn get(&self) -> (Step, Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Opening {
    /// Opens the database before the deadline. Calls `report` every few seconds while it waits.
    async fn run(&self, report: fn(&DatabaseWait)) -> Result<Pools, StorageError> {
        let (began, progress) = (Instant::now(), Progress::default());
        let deadline = later(began, START_TIMEOUT);
        let reporting = async {
            let mut ticks = interval_at(later(began, REPORT_INTERVAL), REPORT_INTERVAL);
            loop {
                ticks.tick().await;
                let ((step, error), left) = (progress.get(), deadline.saturating_duration_since(Instant::now()));
                report(&DatabaseWait { database: self.name.clone(), step, error, left });
            }
        };
        tokio::select! {
            opened = timeout_at(deadline, self.retry_until_open(&progress)) => opened.unwrap_or_else(|_| {
                let (step, error) = progress.get();
                Err(StorageError::TimedOut { database: self.name.clone(), step, error })
            }),
            () = reporting => Err(Error::WorkerCrashed.into()), // unreachable: this future never ends
        }
    }

    async fn retry_until_open(&self, progress: &Progress) -> Result<Pools, StorageError> {
        loop {
            match self.attempt(progress).await {
                Err(error) if error.is_transient() => progress.failed(&error),
                opened => return opened,
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(&self, progress: &Progress) -> Result<Pools, StorageError> {
        progress.at(Step::Connect);
        let connected = timeout(CONNECT_TIMEOUT, self.options.connect()).await;
        let no_answer = || Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s"));
        let mut connection = connected.unwrap_or_else(|_| Err(no_answer()))?;
        if self.engine == Engine::Postgres {
            connection.execute(LOCK_TIMEOUT).await?;
            postgres::check_encoding(&mut connection).await?;
        }
        progress.at(Step::HashKey);
        match stored_key(&mut connection, self.engine).await? {
            Some(stored) if stored != self.hash_key.check_value() => {
                return Err(StorageError::OtherKey(self.name.clone()));
            }
            None if !self.may_create => return Err(StorageError::NoDatabase(self.name.clone())),
            Some(_) | None => {}
        }
        progress.at(Step::Schema);
        match migrations(self.engine, self.content).run_direct(None, &mut connection, false).await {
            Err(MigrateError::VersionMismatch(_)) => return Err(StorageError::OtherSchema(self.name.clone())),
            done => done?,
        }
        check_key(&mut connection, &self.hash_key, &self.name).await?;
        connection.close().await?;
        progress.at(Step::Connections);
        Ok(match self.engine {
            Engine::Sqlite => sqlite::pools(&self.options, self.content).await?,
            Engine::Postgres => postgres::pools(&self.options, self.connections, &self.stale_cutoff).await?,
        })
    }
}

/// The contents of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Everything, except that SQLite keeps the carts in another file.
    All,
    /// Only the carts, in their own SQLite file.
    Carts,
}

/// The migrations. A migration removes nothing that the previous release needs, and migrations of later releases are
/// ignored, so that a release also runs on the schema of the next one.
fn migrations(engine: Engine, content: Content) -> Migrator {
    let steps: &[(i64, &str, &str)] = match (engine, content) {
        (Engine::Sqlite, Content::All) => &[(1, "baseline", include_str!("../../migrations/sqlite/0001_baseline.sql"))],
        (Engine::Sqlite, Content::Carts) => &[(1, "carts", include_str!("../../migrations/sqlite/0001_carts.sql"))],
        (Engine::Postgres, _) => &[(1, "baseline", include_str!("../../migrations/postgres/0001_baseline.sql"))],
    };
    let steps = steps.iter().map(|(version, name, sql)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, AssertSqlSafe(*sql).into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.set_ignore_missing(true);
    migrator
}

/// Reads the check value of the hash key that the database was created with. `None` if no connector has created the
/// database yet.
async fn stored_key(connection: &mut AnyConnection, engine: Engine) -> Result<Option<Vec<u8>>, StorageError> {
    let has_table = match engine {
        Engine::Sqlite => "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'property'",
        Engine::Postgres => "SELECT count(to_regclass('property'))",
    };
    let tables: i64 = query_scalar(has_table).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(None);
    }
    let stored = query_scalar("SELECT value FROM property WHERE name = $1").bind(KEY_CHECK);
    Ok(stored.fetch_optional(connection).await?)
}

/// Stores the key's check value in a new database. Refuses an existing database that was created with another key.
async fn check_key(connection: &mut AnyConnection, hash_key: &HashKey, name: &str) -> Result<(), StorageError> {
    let check = hash_key.check_value();
    query::<Any>("INSERT INTO property (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(KEY_CHECK)
        .bind(check.as_slice())
        .execute(&mut *connection)
        .await?;
    let stored: Vec<u8> =
        query_scalar("SELECT value FROM property WHERE name = $1").bind(KEY_CHECK).fetch_one(connection).await?;
    if stored == check { Ok(()) } else { Err(StorageError::OtherKey(name.to_owned())) }
}
