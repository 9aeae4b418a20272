//! Opens a database under one deadline, from the first connection to the last, and reports every few seconds what it
//! waits for.
//!
//! Transient errors are retried until the deadline. A database with another hash key is refused before anything in it
//! is changed.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Error, Executor as _};
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};

use super::error::StorageError;
use super::postgres::StaleCutoff;
use super::schema::{Content, check_key, migrations, stored_key};
use super::{Engine, Pools, postgres, sqlite};
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
    /// Reading its hash key.
    HashKey,
    /// Migrating its schema.
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

/// The parameters of opening a database.
pub(super) struct Opening<'o> {
    pub(super) engine: Engine,
    pub(super) content: Content,
    pub(super) options: &'o AnyConnectOptions,
    /// The maximum number of connections to PostgreSQL.
    pub(super) connections: u32,
    pub(super) hash_key: &'o HashKey,
    pub(super) name: &'o str,
    /// Whether a new database may be created.
    pub(super) may_create: bool,
    pub(super) stale_cutoff: &'o StaleCutoff,
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

impl Opening<'_> {
    /// Opens the database before the deadline. Calls `report` every few seconds while it waits.
    pub(super) async fn run(&self, report: fn(&DatabaseWait)) -> Result<Pools, StorageError> {
        let (began, progress) = (Instant::now(), Progress::default());
        let deadline = later(began, START_TIMEOUT);
        let reporting = async {
            let mut ticks = interval_at(later(began, REPORT_INTERVAL), REPORT_INTERVAL);
            loop {
                ticks.tick().await;
                let ((step, error), left) = (progress.get(), deadline.saturating_duration_since(Instant::now()));
                report(&DatabaseWait { database: self.name.to_owned(), step, error, left });
            }
        };
        tokio::select! {
            opened = timeout_at(deadline, self.retry_until_open(&progress)) => opened.unwrap_or_else(|_| {
                let (step, error) = progress.get();
                Err(StorageError::TimedOut { database: self.name.to_owned(), step, error })
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
                return Err(StorageError::OtherKey(self.name.to_owned()));
            }
            None if !self.may_create => return Err(StorageError::NoDatabase(self.name.to_owned())),
            Some(_) | None => {}
        }
        progress.at(Step::Schema);
        migrations(self.engine, self.content).run_direct(None, &mut connection, false).await?;
        check_key(&mut connection, self.hash_key, self.name).await?;
        connection.close().await?;
        progress.at(Step::Connections);
        Ok(match self.engine {
            Engine::Sqlite => sqlite::pools(self.options, self.content).await?,
            Engine::Postgres => postgres::pools(self.options, self.connections, self.stale_cutoff).await?,
        })
    }
}
