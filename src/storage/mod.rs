//! The database that directory, ledger and carts use: opening it, its schema and hash key, time limits, and health.
//!
//! SQLite and PostgreSQL share one interface (sqlx's `Any`), so a statement that both understand is written once. Each
//! piece of work runs in its own task and is never cancelled half way. A connection to PostgreSQL that exceeds its time
//! limit is closed, never returned to its pool. Work for administration and shoppers' apps never takes the connections
//! that scans' look-ups need, nor the one that writes records. A SQLite file has one writer at a time: there, a record
//! waits for at most one such change.
//!
//! Records in a SQLite file do not use sqlx, which would move each statement to another thread and back. The thread of
//! the ledger writes them itself, by rusqlite.
//!
//! This module knows nothing about the tables of the modules that use it, except for the one row that the probe reads.

mod error;
mod health;
mod opening;
mod postgres;
mod sqlite;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::{AcquireError, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub(crate) use error::{DatabaseError, StorageError, corrupt};
pub(crate) use health::register;
pub(crate) use opening::Step;
pub(crate) use sqlite::{JSON_ROWS, open_recorder};

use crate::breaker::Subject;
use crate::digest::HashKey;
use health::{Breaker, Kind, QueryPermits, WriteInProgress};
use postgres::StaleCutoff;
use sqlite::Disk;

// Each is much shorter than a request's deadline of 1.5 s, which limits their sum.
/// The time limit for getting a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(250);
/// The time limit of a scan's look-up.
const READ_TIMEOUT: Duration = Duration::from_millis(350);
/// The time limit of writing a batch of records.
const RECORD_TIMEOUT: Duration = Duration::from_millis(600);
/// The time limit of administration and maintenance, which no gate waits for.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of work for shoppers' apps.
const SHOPPER_TIMEOUT: Duration = Duration::from_secs(2);

/// The kind of database, for the cases in which they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file that only this process uses.
    Sqlite,
    /// A server that several connectors may share.
    Postgres,
}

/// The database to open.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A server, and the maximum number of connections to it.
    Postgres {
        /// `postgres://…`, which may contain a password.
        url: SecretString,
        /// At least 4.
        connections: u32,
    },
}

/// The location without user and password.
impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres { url, .. } => {
                let Ok(url) = Url::parse(url.expose_secret()) else { return f.write_str("postgres://") };
                write!(f, "postgres://{}", url.host_str().unwrap_or_default())?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
        }
    }
}

/// An open database. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>, Workload);

/// The kind of work that a [`Database`] handle is for, besides scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Workload {
    /// Administration, imports, lists and sweeps.
    Admin,
    /// Shoppers' apps: many short requests.
    Shoppers,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    /// The path of a SQLite file.
    path: Option<PathBuf>,
    options: AnyConnectOptions,
    pools: Pools,
    breaker: Breaker,
    /// Notified when the breaker opens.
    opened: Arc<Notify>,
    /// Connections that were opened before this time are not used any more.
    stale_cutoff: StaleCutoff,
    hash_key: HashKey,
    /// Limits the concurrent look-ups of scans.
    query_permits: QueryPermits,
    /// Limits changes outside the path of scans to one at a time, where they write to the same SQLite file. A record
    /// waits for at most one of them.
    change_permit: Arc<Semaphore>,
    /// The permit to write to the SQLite file, which has one writer: for the records of scans, or for a change.
    write_permit: Arc<Semaphore>,
    /// The write of records to the SQLite file that is in progress.
    write_in_progress: WriteInProgress,
    /// The disk usage of a SQLite file, as measured for the metrics.
    disk: Mutex<Option<Disk>>,
    /// The lock of a SQLite file, held while the database is open.
    _lock: Option<File>,
}

/// The connection pools, separate so that other work does not take the connections that scans need.
#[derive(Debug)]
struct Pools {
    /// For scans' look-ups.
    reads: AnyPool,
    /// For the records of scans. With SQLite, this is one connection for all writes.
    writes: AnyPool,
    /// For lists.
    admin_reads: AnyPool,
    /// For administration, imports and sweeps.
    admin_writes: AnyPool,
    /// For look-ups of shoppers' apps.
    shopper_reads: AnyPool,
    /// For changes by shoppers' apps.
    shopper_writes: AnyPool,
}

/// The future of work on a connection.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 'c>>;

pub(crate) trait Job<T>: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static {}

impl<T, W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static> Job<T> for W {}

impl Database {
    /// The same database for the work of shoppers' apps, with their own connections where there are enough, and a
    /// shorter time limit.
    pub(crate) fn for_shoppers(&self) -> Self {
        Self(Arc::clone(&self.0), Workload::Shoppers)
    }

    /// The kind of database.
    pub fn engine(&self) -> Engine {
        self.0.engine
    }

    /// The hash key of this database's digests.
    pub fn hash_key(&self) -> &HashKey {
        &self.0.hash_key
    }

    /// The path of a SQLite file.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Whether the database answers scans in time, as far as is known.
    pub fn is_up(&self) -> bool {
        self.accepts_queries() && !self.is_slow()
    }

    /// Whether requests may query the database: the breaker is closed.
    pub fn accepts_queries(&self) -> bool {
        !self.0.breaker.is_open()
    }

    /// Whether commits to a SQLite file take longer than a scan may wait.
    pub fn is_slow(&self) -> bool {
        self.0.breaker.is_slow()
    }

    /// Reads data that a scan waits for. `subject` identifies the scan.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        subject: Subject,
        work: impl Job<T>,
    ) -> Result<T, DatabaseError> {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let permit = match self.0.query_permits.acquire().await {
            Ok(permit) => permit,
            Err(error) => {
                self.diagnose(Kind::Read, &[subject], Some(&error));
                return Err(error);
            }
        };
        self.run(&self.0.pools.reads, READ_TIMEOUT, Some((Kind::Read, vec![subject])), |connection| {
            Box::pin(async move {
                let _permit = permit; // held until the query ends, even if the caller has disconnected
                work(connection).await
            })
        })
        .await
    }

    /// Reads data that no gate waits for, such as a list.
    pub(crate) async fn look_up<T: Send + 'static>(&self, work: impl Job<T>) -> Result<T, DatabaseError> {
        let Pools { admin_reads, shopper_reads, .. } = &self.0.pools;
        match (self.1, self.0.engine) {
            (Workload::Shoppers, _) => self.run(shopper_reads, SHOPPER_TIMEOUT, None, work).await,
            (Workload::Admin, Engine::Sqlite) => self.run(admin_reads, ADMIN_TIMEOUT, None, work).await,
            (Workload::Admin, Engine::Postgres) => {
                let work = with_admin_timeouts(work);
                self.run(admin_reads, ADMIN_TIMEOUT, None, |connection| {
                    Box::pin(in_transaction("BEGIN READ ONLY", connection, work))
                })
                .await
            }
        }
    }

    /// Writes records to PostgreSQL.
    pub(crate) async fn record<T: Send + 'static>(
        &self,
        subjects: Vec<Subject>,
        work: impl Job<T>,
    ) -> Result<T, DatabaseError> {
        self.run(&self.0.pools.writes, RECORD_TIMEOUT, Some((Kind::Write, subjects)), work).await
    }

    /// Writes records to the SQLite file in this thread, which `work` blocks until the disk has finished.
    pub(crate) async fn record_here<T>(
        &self,
        subjects: Vec<Subject>,
        work: impl FnOnce() -> Result<T, DatabaseError>,
    ) -> Result<T, DatabaseError> {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let permit = match self.0.write_permit.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match timeout(RECORD_TIMEOUT, self.0.write_permit.acquire()).await {
                Ok(Ok(permit)) => permit,
                _ => {
                    self.report_late_write(1); // a change is being written for too long
                    return Err(DatabaseError::TimedOut);
                }
            },
        };
        self.0.write_in_progress.begin();
        let result = work();
        self.report_write_in_progress();
        let is_late = self.0.write_in_progress.end();
        drop(permit);
        match &result {
            Ok(_) if is_late => self.0.breaker.wrote(), // a late success is no sign of health
            result => self.diagnose(Kind::Write, &subjects, result.as_ref().err()),
        }
        result
    }

    /// Runs `work`, which no gate waits for, in a transaction.
    pub(crate) async fn transaction<T: Send + 'static>(&self, work: impl Job<T>) -> Result<T, DatabaseError> {
        let (pool, time_limit) = match self.1 {
            Workload::Admin => (&self.0.pools.admin_writes, ADMIN_TIMEOUT),
            Workload::Shoppers => (&self.0.pools.shopper_writes, SHOPPER_TIMEOUT),
        };
        match (self.1, self.0.engine) {
            (_, Engine::Sqlite) => {
                let permits = self.change_permits(time_limit).await?;
                self.run(pool, time_limit, None, |connection| {
                    Box::pin(async move {
                        let _permits = permits; // held until the work ends, even if the caller has disconnected
                        in_transaction(IMMEDIATE, connection, work).await
                    })
                })
                .await
            }
            (Workload::Shoppers, Engine::Postgres) => {
                self.run(pool, time_limit, None, |connection| Box::pin(in_transaction("BEGIN", connection, work))).await
            }
            (Workload::Admin, Engine::Postgres) => {
                let work = with_admin_timeouts(work);
                self.run(pool, time_limit, None, |connection| Box::pin(in_transaction("BEGIN", connection, work))).await
            }
        }
    }

    /// Waits until a change may write to the SQLite file, for as long as the change holds the permits.
    async fn change_permits(&self, time_limit: Duration) -> Result<[OwnedSemaphorePermit; 2], DatabaseError> {
        let both = async {
            let change = Arc::clone(&self.0.change_permit).acquire_owned().await;
            Ok([change?, Arc::clone(&self.0.write_permit).acquire_owned().await?])
        };
        // The semaphores are never closed, so the only error is the timeout.
        let permits: Result<Result<_, AcquireError>, _> = timeout(time_limit, both).await;
        permits.ok().and_then(Result::ok).ok_or(DatabaseError::TimedOut)
    }

    /// Closes the database. A SQLite file is then complete without its log, and can be copied.
    pub(crate) async fn close(&self) {
        let Pools { reads, writes, admin_reads, admin_writes, shopper_reads, shopper_writes } = &self.0.pools;
        // The writer is closed last: the last connection moves the log into the file, which a reader cannot.
        for pool in [reads, admin_reads, shopper_reads, admin_writes, shopper_writes, writes] {
            pool.close().await;
        }
    }

    /// Runs `work` in its own task. `health` is the kind and the subjects of the work, if its result counts for the
    /// database's health.
    async fn run<T: Send + 'static>(
        &self,
        pool: &AnyPool,
        time_limit: Duration,
        health: Option<(Kind, Vec<Subject>)>,
        work: impl Job<T>,
    ) -> Result<T, DatabaseError> {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let (database, pool) = (self.clone(), pool.clone());
        // In its own task, because the caller may stop waiting, and the statement must not be cancelled half way.
        let task = tokio::spawn(async move {
            let answers_before = database.0.query_permits.answer_count();
            let mut result = database.attempt(&pool, time_limit, work, &mut |_| ()).await;
            if let Some((kind, subjects)) = health {
                let is_busy = kind == Kind::Read && database.0.query_permits.has_answered_since(answers_before);
                if is_busy && matches!(result, Err(DatabaseError::Sqlx(sqlx::Error::PoolTimedOut))) {
                    result = Err(DatabaseError::Busy);
                }
                database.diagnose(kind, &subjects, result.as_ref().err());
            }
            result
        });
        task.await.unwrap_or(Err(DatabaseError::Panicked))
    }

    /// With SQLite, `late` is called each time that the time limit has passed while the work runs.
    async fn attempt<T, W>(
        &self,
        pool: &AnyPool,
        time_limit: Duration,
        work: W,
        late: &mut (dyn FnMut(u32) + Send),
    ) -> Result<T, DatabaseError>
    where
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T>,
    {
        let mut connection = pool.acquire().await?;
        if self.0.engine == Engine::Sqlite {
            // SQLite works in a thread of this process, which cannot be cancelled: it ends when the disk has finished.
            let result = {
                let (mut work, mut times) = (work(&mut connection), 0_u32);
                loop {
                    if let Ok(result) = timeout(time_limit, &mut work).await {
                        break result;
                    }
                    times = times.saturating_add(1);
                    late(times);
                }
            };
            if result.is_err() {
                // After a failed commit, sqlx may consider the transaction still open, and then no other could begin on
                // this connection.
                drop(connection.close().await);
            }
            return result;
        }
        let Ok(result) = timeout(time_limit, work(&mut connection)).await else {
            // The statement cannot be cancelled, so its connection is closed.
            drop(connection.detach());
            return Err(DatabaseError::TimedOut);
        };
        if result.as_ref().is_err_and(|error: &DatabaseError| error.is_connection_error()) {
            self.0.stale_cutoff.set_now();
        }
        result
    }
}

/// Begins a transaction that writes to SQLite. A transaction that begins by reading fails at its first write if the
/// file has changed since.
pub(crate) const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// Runs `work` in a transaction on this connection: commits it, or rolls it back if `work` fails.
pub(crate) async fn in_transaction<T, W>(
    begin: &'static str,
    connection: &mut AnyConnection,
    work: W,
) -> Result<T, DatabaseError>
where
    W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T>,
{
    let mut transaction = connection.begin_with(begin).await?;
    let done = work(&mut transaction).await;
    if done.is_ok() {
        transaction.commit().await?;
    } else if let Err(error) = transaction.rollback().await {
        tracing::debug!(%error, "cannot roll back a failed transaction"); // the caller gets the cause
    }
    done
}

/// Wraps `work` so that its PostgreSQL transaction may take longer than a scan can wait.
fn with_admin_timeouts<T: Send + 'static>(work: impl Job<T>) -> impl Job<T> {
    |connection: &mut AnyConnection| {
        Box::pin(async move {
            connection.execute("SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '8s'").await?;
            work(connection).await
        })
    }
}

/// Turns off the logging of statements, whose parameters may be personal data.
fn without_statement_log(options: AnyConnectOptions) -> AnyConnectOptions {
    options.disable_statement_logging()
}

fn with_settings(options: AnyPoolOptions, settings: &'static [&'static str]) -> AnyPoolOptions {
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            for setting in settings {
                connection.execute(*setting).await?;
            }
            Ok(())
        })
    })
}

/// Nanoseconds since 1970. Times outside the years 1677 to 2262 become the nearest value that an `i64` can hold.
pub(crate) fn to_nanos(time: DateTime<Utc>) -> i64 {
    let bound = if time < DateTime::UNIX_EPOCH { i64::MIN } else { i64::MAX };
    time.timestamp_nanos_opt().unwrap_or(bound)
}

/// The time of a number of nanoseconds since 1970.
pub(crate) fn from_nanos(nanos: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(nanos)
}
