//! The database under directory and ledger: where it is, who may write to it, which schema it has, under which key it hashes, and
//! how long one waits for it.
//!
//! SQLite and PostgreSQL stand behind one interface (sqlx's `Any`): statements are written once, in what both understand.
//! No database future is ever cancelled half way: each runs in a task of its own, and a connection that took too long is
//! closed, never given back.

mod breaker;
mod error;
mod postgres;
mod schema;
mod sqlite;

use std::fs::File;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use secrecy::SecretString;
use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _, query};
use tokio::time::{sleep, timeout};

pub use error::StorageError;
pub(crate) use {
    breaker::Subject,
    error::{DatabaseError, corrupt},
};

use crate::digest::HashKey;
use breaker::{Breaker, Kind};
use postgres::Suspicion;
use schema::{check_key, migrations};

// Together within a request's deadline of 1.5 s: to wait for a connection and look a key up, then to wait for one and record. Where a
// store must be looked up as well and all of it is as slow as can be, the deadline itself ends it.
/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_millis(250);
/// How long a statement of a scan may take.
const READ: Duration = Duration::from_millis(350);
/// How long a batch of records may take.
const RECORD: Duration = Duration::from_millis(600);
/// How long anything may take that no gate waits for.
const WORK: Duration = Duration::from_secs(10);
/// How often a database that does not answer is tried.
const PROBE: Duration = Duration::from_millis(250);

/// What a probe writes.
const PROBED: &str = "probed";

/// Which database it is, for the little that they do not have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file of this process alone.
    Sqlite,
    /// A server that several connectors share.
    Postgres,
}

/// Which database to open.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file.
    Sqlite(PathBuf),
    /// A server, and how many connections to hold to it at most.
    Postgres {
        /// `postgres://…`, which may hold a password.
        url: SecretString,
        /// 3 or more.
        connections: u32,
    },
}

/// An open database: clones share it.
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    engine: Engine,
    reads: AnyPool,
    writes: AnyPool,
    breaker: Breaker,
    /// Connections that are older than this are not used any more: one of them was found broken.
    suspicion: Suspicion,
    hash_key: HashKey,
    /// Held for as long as the database is open.
    _lock: Option<File>,
}

/// Work on a connection.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 'c>>;

impl Database {
    /// Opens it, or makes a new file; brings its schema up to date; checks its hash key.
    ///
    /// # Errors
    /// When another process has the file, it belongs to another hash key, or it cannot be used.
    pub async fn open(location: &Location, hash_key: Option<HashKey>) -> Result<Self, StorageError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let (engine, options, hash_key, lock, name) = match location {
            Location::Sqlite(path) => {
                let (lock, hash_key) = sqlite::take(path, hash_key)?;
                (Engine::Sqlite, sqlite::options(path)?, hash_key, Some(lock), path.display().to_string())
            }
            Location::Postgres { url, .. } => {
                let hash_key = hash_key.ok_or(StorageError::NoKey)?;
                (Engine::Postgres, postgres::options(url)?, hash_key, None, "the database".to_owned())
            }
        };
        let mut connection = match location {
            Location::Sqlite(_) => options.connect().await?,
            Location::Postgres { .. } => postgres::connect(&options).await?,
        };
        migrations(engine).run_direct(None, &mut connection, false).await?;
        check_key(&mut connection, &hash_key, &name).await?;
        connection.close().await?;
        let suspicion = Suspicion::default();
        let (reads, writes) = match location {
            Location::Sqlite(_) => sqlite::pools(&options).await?,
            Location::Postgres { connections, .. } => postgres::pools(&options, *connections, &suspicion).await?,
        };
        let breaker = Breaker::default();
        Ok(Self(Arc::new(Inner { engine, reads, writes, breaker, suspicion, hash_key, _lock: lock })))
    }

    /// Which one it is.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.0.engine
    }

    /// The key under which this database's digests were made.
    #[must_use]
    pub fn hash_key(&self) -> &HashKey {
        &self.0.hash_key
    }

    /// Whether it answers, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.0.breaker.is_open()
    }

    /// How often it did not answer, or not in time.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.breaker.failures()
    }

    /// Reads something that a scan waits for.
    pub(crate) async fn read<T, W>(&self, subject: Subject, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        self.run(Kind::Read, READ, vec![subject], work).await
    }

    /// Reads something that no gate waits for, such as a list.
    pub(crate) async fn look_up<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        if self.0.engine == Engine::Sqlite {
            return self.run(Kind::Read, WORK, Vec::new(), work).await;
        }
        let work = patient(work);
        self.run(Kind::Read, WORK, Vec::new(), |connection| {
            Box::pin(all_or_nothing("BEGIN READ ONLY", connection, work))
        })
        .await
    }

    /// Writes records, in one transaction or one statement that is `work`'s own.
    pub(crate) async fn record<T, W>(&self, subjects: Vec<Subject>, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        self.run(Kind::Write, RECORD, subjects, work).await
    }

    /// Does all of `work` or nothing, outside the path of scans.
    pub(crate) async fn transaction<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        if self.0.engine == Engine::Sqlite {
            let whole = self
                .run(Kind::Write, WORK, Vec::new(), |connection| Box::pin(all_or_nothing(IMMEDIATE, connection, work)));
            return whole.await;
        }
        let work = patient(work);
        self.run(Kind::Write, WORK, Vec::new(), |connection| Box::pin(all_or_nothing("BEGIN", connection, work))).await
    }

    /// Closes it. A SQLite file is one whole file then, and can be copied.
    pub(crate) async fn close(&self) {
        // Readers first, since only the last connection puts the file together, and a reader could not.
        self.0.reads.close().await;
        self.0.writes.close().await;
    }

    async fn run<T, W>(
        &self,
        kind: Kind,
        patience: Duration,
        subjects: Vec<Subject>,
        work: W,
    ) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let database = self.clone();
        // A task of its own: whoever waits may give up, the statement must not be left half way.
        let task = tokio::spawn(async move {
            let result = database.attempt(kind, patience, work).await;
            match &result {
                Err(error) if error.is_ill_health() => {
                    if database.0.breaker.failed(kind, &subjects) {
                        tracing::warn!(%error, "the database does not answer: scans get a 500 until it does");
                        tokio::spawn(probe(Arc::downgrade(&database.0)));
                    }
                }
                _ => database.0.breaker.succeeded(kind),
            }
            result
        });
        task.await.unwrap_or(Err(DatabaseError::Panicked))
    }

    async fn attempt<T, W>(&self, kind: Kind, patience: Duration, work: W) -> Result<T, DatabaseError>
    where
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T>,
    {
        let pool = match kind {
            Kind::Read => &self.0.reads,
            Kind::Write => &self.0.writes,
        };
        let mut connection = pool.acquire().await?;
        if self.0.engine == Engine::Sqlite {
            // SQLite works in a thread of this process: it always ends, and waits no longer for a lock than it was told to.
            return work(&mut connection).await;
        }
        if let Ok(result) = timeout(patience, work(&mut connection)).await {
            if let Err(DatabaseError::Sqlx(sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) = &result {
                self.0.suspicion.arise();
            }
            return result;
        }
        // What is under way on it cannot be called back, so the connection goes with it.
        drop(connection.detach());
        Err(DatabaseError::TimedOut)
    }
}

/// Asks a database that does not answer, until it does.
async fn probe(database: std::sync::Weak<Inner>) {
    loop {
        sleep(PROBE).await;
        let Some(inner) = database.upgrade() else { return };
        let database = Database(inner);
        // Written, since a database may read and yet not commit.
        let written = database.attempt(Kind::Write, READ, |connection| Box::pin(write_probe(connection))).await;
        let read = database.attempt(Kind::Read, READ, |connection| Box::pin(read_probe(connection))).await;
        if written.is_ok() && read.is_ok() {
            database.0.breaker.close();
            tracing::info!("the database answers again");
            return;
        }
    }
}

async fn write_probe(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    let statement = "INSERT INTO property VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    query::<Any>(statement).bind(PROBED).bind(vec![1_u8]).execute(connection).await?;
    Ok(())
}

async fn read_probe(connection: &mut AnyConnection) -> Result<(), DatabaseError> {
    connection.execute("SELECT 1").await?;
    Ok(())
}

/// How a transaction of SQLite begins that is going to write: a reader that turns writer may find that it has read what is no longer so.
pub(crate) const IMMEDIATE: &str = "BEGIN IMMEDIATE";

/// Does all of `work` on this connection or, when it fails, nothing.
pub(crate) async fn all_or_nothing<T, W>(
    begin: &'static str,
    connection: &mut AnyConnection,
    work: W,
) -> Result<T, DatabaseError>
where
    W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T>,
{
    let mut transaction = connection.begin_with(begin).await?;
    let done = work(&mut transaction).await;
    match done {
        Ok(_) => transaction.commit().await?,
        Err(_) => transaction.rollback().await?,
    }
    done
}

/// The same work in a transaction of PostgreSQL that may take longer than a scan can wait.
fn patient<T, W>(work: W) -> impl for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static
where
    T: Send + 'static,
    W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
{
    |connection| {
        Box::pin(async move {
            connection.execute("SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '8s'").await?;
            work(connection).await
        })
    }
}

/// Statements are not for the log: what they are bound to may be a person's.
fn quietly(options: AnyConnectOptions) -> AnyConnectOptions {
    options.disable_statement_logging()
}

fn with_settings(options: AnyPoolOptions, settings: &'static str) -> AnyPoolOptions {
    options.after_connect(move |connection, _| Box::pin(async move { connection.execute(settings).await.map(drop) }))
}
