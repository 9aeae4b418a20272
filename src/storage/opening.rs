//! Opening a database: one deadline over all that a start asks of it, from the first connection to the last, and what is told meanwhile.
//!
//! What may pass is tried again until then. A database of another hash key is refused before anything in it is changed.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Error, Executor as _};
use tokio::time::{Instant, interval_at, sleep, timeout, timeout_at};

use super::error::StorageError;
use super::postgres::Suspicion;
use super::schema::{Content, check_key, migrations, stored_key};
use super::{Engine, Pools, postgres, sqlite};
use crate::digest::HashKey;

/// How long a start waits for its database. The server may start at the same time, or the machine may be busy.
pub(super) const START: Duration = Duration::from_secs(30);
/// How long one attempt to connect may take, TLS and authentication included: the next may reach a server that answers.
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(250);
/// How often it is told that a start still waits.
const TELL: Duration = Duration::from_secs(3);
/// Said to the connection of a start: the server itself gives up when another one holds a lock, so that nothing is left waiting there.
const LOCKS: &str = "SET lock_timeout = '5s'";

/// What a start waits for.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The database, without user and password.
    pub database: String,
    /// What it was asked for last.
    pub step: Step,
    /// Why that failed, if it did.
    pub error: Option<String>,
    /// How long until the start gives up.
    pub left: Duration,
}

/// What a start asks of a database, one after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Step {
    /// A connection, TLS and authentication included.
    #[default]
    Connect,
    /// Its hash key.
    HashKey,
    /// The steps of its schema that are missing.
    Schema,
    /// The connections with which the connector works.
    Connections,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::HashKey => "reading its hash key",
            Self::Schema => "bringing its schema up to date",
            Self::Connections => "opening more connections",
        })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, step, error, left } = self;
        write!(f, "the database does not answer yet: {database}: {step}")?;
        if let Some(error) = error {
            write!(f, ": {error}")?;
        }
        write!(f, "; giving up in {} s", left.as_secs())
    }
}

/// What is to be opened.
pub(super) struct Opening<'o> {
    pub(super) engine: Engine,
    pub(super) content: Content,
    pub(super) options: &'o AnyConnectOptions,
    /// How many connections to PostgreSQL there may be.
    pub(super) connections: u32,
    pub(super) hash_key: &'o HashKey,
    pub(super) name: &'o str,
    /// Whether it may be a new one.
    pub(super) may_create: bool,
    pub(super) suspicion: &'o Suspicion,
}

/// Where it stands: the step under way, and why the attempt before failed.
#[derive(Default)]
struct Progress(Mutex<(Step, Option<String>)>);

impl Progress {
    fn at(&self, step: Step) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = step;
    }

    fn failed(&self, error: &StorageError) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(error.words());
    }

    fn get(&self) -> (Step, Option<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Opening<'_> {
    /// Opens it by the deadline, and tells every few seconds that it does not answer yet.
    pub(super) async fn run(&self, tell: fn(&Waiting)) -> Result<Pools, StorageError> {
        let (began, progress) = (Instant::now(), Progress::default());
        let deadline = began.checked_add(START).unwrap_or(began);
        let telling = async {
            let mut ticks = interval_at(began.checked_add(TELL).unwrap_or(began), TELL);
            loop {
                ticks.tick().await;
                let ((step, error), left) = (progress.get(), deadline.saturating_duration_since(Instant::now()));
                tell(&Waiting { database: self.name.to_owned(), step, error, left });
            }
        };
        tokio::select! {
            opened = timeout_at(deadline, self.until_it_answers(&progress)) => opened.unwrap_or_else(|_| {
                let (step, error) = progress.get();
                Err(StorageError::TimedOut { database: self.name.to_owned(), step, error })
            }),
            () = telling => Err(Error::WorkerCrashed.into()), // it never ends
        }
    }

    async fn until_it_answers(&self, progress: &Progress) -> Result<Pools, StorageError> {
        loop {
            match self.attempt(progress).await {
                Err(error) if error.may_pass() => progress.failed(&error),
                opened => return opened,
            }
            sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, progress: &Progress) -> Result<Pools, StorageError> {
        progress.at(Step::Connect);
        let connected = timeout(CONNECT, self.options.connect()).await;
        let silent = || Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s"));
        let mut connection = connected.unwrap_or_else(|_| Err(silent()))?;
        if self.engine == Engine::Postgres {
            connection.execute(LOCKS).await?;
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
            Engine::Postgres => postgres::pools(self.options, self.connections, self.suspicion).await?,
        })
    }
}
