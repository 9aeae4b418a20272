//! The database under directory and ledger: where it is, who may write to it, which schema it has, under which key it hashes, and
//! how long one waits for it.
//!
//! SQLite and PostgreSQL stand behind one interface (sqlx's `Any`): statements are written once, in what both understand.
//! No database future is ever cancelled half way: each runs in a task of its own, and a connection that took too long is
//! closed, never given back.

mod breaker;
mod disk;
mod error;
mod opening;
mod postgres;
mod purge;
mod schema;
mod sqlite;
mod time;
mod turns;
mod watch;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;

pub use disk::Disk;
pub use error::StorageError;
pub(crate) use error::{DatabaseError, corrupt};
pub use opening::{Step, Waiting};
pub(crate) use sqlite::JSON_ROWS;
pub(crate) use time::{instant, nanos};

use crate::breaker::Subject;
use crate::digest::HashKey;
use breaker::{Breaker, Kind, Late};
use error::Symptom;
use opening::Opening;
use postgres::Suspicion;
use schema::Content;
use sqlite::Taken;
use turns::Turns;

// Each well within a request's deadline of 1.5 s, which ends what takes too long in sum.
/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_millis(250);
/// How long a statement of a scan may take.
const READ: Duration = Duration::from_millis(350);
/// How long a batch of records may take.
const RECORD: Duration = Duration::from_millis(600);
/// How long anything may take that no gate waits for.
const OFFICE: Duration = Duration::from_secs(10);
/// How long anything may take that an app waits for.
const SHOPPERS: Duration = Duration::from_secs(2);

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
        /// 4 or more.
        connections: u32,
    },
}

/// Which database it is, without user and password.
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

/// An open database: clones share it.
#[derive(Clone, Debug)]
pub struct Database(Arc<Inner>, Desk);

/// Who asks for what no gate waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desk {
    /// Administration, imports, lists and sweeps.
    Office,
    /// The apps of shoppers: many at once, each for a moment.
    Shoppers,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    /// Where a SQLite file is.
    path: Option<PathBuf>,
    options: AnyConnectOptions,
    pools: Pools,
    breaker: Breaker,
    /// Notified when the breaker opens.
    opened: Arc<Notify>,
    /// Connections that are older than this are not used any more: one of them was found broken.
    suspicion: Suspicion,
    hash_key: HashKey,
    /// Whose turn it is to look something up for a scan.
    turns: Turns,
    /// Whose turn it is to write, where records need the same connection: no more than one change is ever ahead of them.
    turn: Arc<Semaphore>,
    /// Held for as long as the database is open.
    _lock: Option<File>,
}

/// Connections, so that what no gate waits for never takes those that scans need.
#[derive(Debug)]
struct Pools {
    /// For what a scan looks up.
    reads: AnyPool,
    /// For the records of scans. With SQLite, for whatever writes: one connection does.
    writes: AnyPool,
    /// For lists.
    office_reads: AnyPool,
    /// For administration, imports and sweeps.
    office_writes: AnyPool,
    /// For what the apps of shoppers look up.
    shopper_reads: AnyPool,
    /// And for what they change.
    shopper_writes: AnyPool,
}

/// Work on a connection.
pub(crate) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 'c>>;

/// Logs that a start waits.
fn say_it_waits(Waiting { database, step, error, left }: &Waiting) {
    let left = left.as_secs();
    tracing::warn!(%database, %step, error, gives_up_in_s = left, "the database does not answer yet");
}

impl Database {
    /// Opens it, or makes a new one; brings its schema up to date; checks its hash key. Logs every few seconds that it does not answer yet.
    ///
    /// # Errors
    /// When another process has the file, it belongs to another hash key, it does not answer within 30 s, or it cannot be used.
    pub async fn open(location: &Location, hash_key: Option<HashKey>) -> Result<Self, StorageError> {
        Self::open_with(location, hash_key, true, say_it_waits).await
    }

    /// As [`Self::open`]; `may_create`: whether it may be a new one; `tell` is told every few seconds that it does not answer yet.
    ///
    /// # Errors
    /// As [`Self::open`], and when it would be a new one that may not be made: then nothing was changed.
    pub async fn open_with(
        location: &Location,
        hash_key: Option<HashKey>,
        may_create: bool,
        tell: fn(&Waiting),
    ) -> Result<Self, StorageError> {
        Self::open_content(location, hash_key, Content::All, may_create, tell).await
    }

    /// Opens the database of the carts, for the apps of shoppers: with SQLite, a file beside this one, since a file has one writer, and no
    /// record of a scan is to wait for a cart. `location` is where this one is.
    ///
    /// # Errors
    /// As [`Database::open`].
    pub async fn open_carts(&self, location: &Location) -> Result<Self, StorageError> {
        match location {
            Location::Sqlite(path) => {
                let (location, hash_key) = (Location::Sqlite(sqlite::carts_beside(path)), self.hash_key().clone());
                let carts = Self::open_content(&location, Some(hash_key), Content::Carts, true, say_it_waits).await?;
                Ok(carts.for_shoppers())
            }
            Location::Postgres { .. } => Ok(self.for_shoppers()),
        }
    }

    async fn open_content(
        location: &Location,
        hash_key: Option<HashKey>,
        content: Content,
        may_create: bool,
        tell: fn(&Waiting),
    ) -> Result<Self, StorageError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let name = location.to_string();
        let (engine, options, connections, hash_key, lock) = match location {
            Location::Sqlite(path) if !may_create && sqlite::is_new(path) => {
                return Err(StorageError::NoDatabase(name));
            }
            Location::Sqlite(path) => {
                let Taken { path, lock, hash_key } = sqlite::take(path, hash_key)?;
                (Engine::Sqlite, sqlite::options(&path)?, 0, hash_key, Some(lock))
            }
            Location::Postgres { url, connections } => {
                let hash_key = hash_key.ok_or(StorageError::NoKey)?;
                (Engine::Postgres, postgres::options(url)?, *connections, hash_key, None)
            }
        };
        let suspicion = Suspicion::default();
        let opening = Opening {
            engine,
            content,
            options: &options,
            connections,
            hash_key: &hash_key,
            name: &name,
            may_create,
            suspicion: &suspicion,
        };
        let pools = opening.run(tell).await?;
        let (breaker, turn) = (Breaker::default(), Arc::new(Semaphore::new(1)));
        let turns = Turns::new(pools.reads.options().get_max_connections());
        let opened = Arc::default();
        let path = match location {
            Location::Sqlite(path) => Some(path.clone()),
            Location::Postgres { .. } => None,
        };
        let inner =
            Inner { engine, path, options, pools, breaker, opened, suspicion, hash_key, turns, turn, _lock: lock };
        Ok(Self(Arc::new(inner), Desk::Office))
    }

    /// The same for what the apps of shoppers do: they have connections of their own where there are enough, and less patience.
    #[must_use]
    pub(crate) fn for_shoppers(&self) -> Self {
        Self(Arc::clone(&self.0), Desk::Shoppers)
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

    /// Whether it answers scans in time, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_asked() && !self.is_slow()
    }

    /// Whether it is asked at all, and not only checked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        !self.0.breaker.is_open()
    }

    /// Whether it is a SQLite file whose disk takes longer for a commit than a scan may wait.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        self.0.breaker.is_slow()
    }

    /// How often it did not answer, or not in time.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.breaker.failures()
    }

    /// Reads something that no gate waits for, such as a list.
    pub(crate) async fn look_up<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let Pools { office_reads, shopper_reads, .. } = &self.0.pools;
        match (self.1, self.0.engine) {
            (Desk::Shoppers, _) => self.run(shopper_reads, SHOPPERS, None, work).await,
            (Desk::Office, Engine::Sqlite) => self.run(office_reads, OFFICE, None, work).await,
            (Desk::Office, Engine::Postgres) => {
                let work = patient(work);
                self.run(office_reads, OFFICE, None, |connection| {
                    Box::pin(all_or_nothing("BEGIN READ ONLY", connection, work))
                })
                .await
            }
        }
    }

    /// Writes records, in one transaction or one statement that is `work`'s own.
    pub(crate) async fn record<T, W>(&self, subjects: Vec<Subject>, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        self.run(&self.0.pools.writes, RECORD, Some((Kind::Write, subjects)), work).await
    }

    /// Does all of `work` or nothing, outside the path of scans.
    pub(crate) async fn transaction<T, W>(&self, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        let (pool, patience) = match self.1 {
            Desk::Office => (&self.0.pools.office_writes, OFFICE),
            Desk::Shoppers => (&self.0.pools.shopper_writes, SHOPPERS),
        };
        match (self.1, self.0.engine) {
            (_, Engine::Sqlite) => {
                // A semaphore that is never closed: only the time can be up.
                let turn = timeout(patience, Arc::clone(&self.0.turn).acquire_owned()).await;
                let turn = turn.map_err(|_| DatabaseError::TimedOut)?;
                self.run(pool, patience, None, |connection| {
                    Box::pin(async move {
                        let _turn = turn; // also when the caller has gone
                        all_or_nothing(IMMEDIATE, connection, work).await
                    })
                })
                .await
            }
            (Desk::Shoppers, Engine::Postgres) => {
                self.run(pool, patience, None, |connection| Box::pin(all_or_nothing("BEGIN", connection, work))).await
            }
            (Desk::Office, Engine::Postgres) => {
                let work = patient(work);
                self.run(pool, patience, None, |connection| Box::pin(all_or_nothing("BEGIN", connection, work))).await
            }
        }
    }

    /// Closes it. A SQLite file is one whole file then, and can be copied.
    pub(crate) async fn close(&self) {
        let Pools { reads, writes, office_reads, office_writes, shopper_reads, shopper_writes } = &self.0.pools;
        // Readers first, since only the last connection puts the file together, and a reader could not.
        for pool in [reads, office_reads, shopper_reads, office_writes, shopper_writes, writes] {
            pool.close().await;
        }
    }

    /// `health`: whose work it is, if it tells of the database's health at all.
    async fn run<T, W>(
        &self,
        pool: &AnyPool,
        patience: Duration,
        health: Option<(Kind, Vec<Subject>)>,
        work: W,
    ) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let (database, pool) = (self.clone(), pool.clone());
        // A task of its own: whoever waits may give up, the statement must not be left half way.
        let task = tokio::spawn(async move {
            let began = database.0.turns.moment();
            let is_record = matches!(health, Some((Kind::Write, _)));
            let mut is_late = false;
            let mut late = |times| {
                if is_record {
                    is_late = true;
                    database.is_late(times);
                }
            };
            let mut result = database.attempt(&pool, patience, work, &mut late).await;
            if is_late && result.is_ok() {
                database.0.breaker.wrote();
                return result; // too late to be a sign of health
            }
            if let Some((kind, subjects)) = health {
                let is_busy = kind == Kind::Read && database.0.turns.is_answered_since(began);
                if is_busy && matches!(result, Err(DatabaseError::Sqlx(sqlx::Error::PoolTimedOut))) {
                    result = Err(DatabaseError::Busy);
                }
                database.diagnose(kind, &subjects, result.as_ref().err());
            }
            result
        });
        task.await.unwrap_or(Err(DatabaseError::Panicked))
    }

    /// `late` is told each time that the patience has passed while SQLite is at work.
    async fn attempt<T, W>(
        &self,
        pool: &AnyPool,
        patience: Duration,
        work: W,
        late: &mut (dyn FnMut(u32) + Send),
    ) -> Result<T, DatabaseError>
    where
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T>,
    {
        let mut connection = pool.acquire().await?;
        if self.0.engine == Engine::Sqlite {
            // SQLite works in a thread of this process, which nothing can call back: it ends when the disk has done its work.
            let result = {
                let (mut work, mut times) = (work(&mut connection), 0_u32);
                loop {
                    if let Ok(result) = timeout(patience, &mut work).await {
                        break result;
                    }
                    times = times.saturating_add(1);
                    late(times);
                }
            };
            if result.is_err() {
                // Where a commit has failed, sqlx may think the transaction still under way, and no other could begin.
                drop(connection.close().await);
            }
            return result;
        }
        let Ok(result) = timeout(patience, work(&mut connection)).await else {
            // What is under way on it cannot be called back, so the connection goes with it.
            drop(connection.detach());
            return Err(DatabaseError::TimedOut);
        };
        if result.as_ref().is_err_and(|error: &DatabaseError| error.is_of_the_connection()) {
            self.0.suspicion.arise();
        }
        result
    }

    /// A scan's record is still being written to the SQLite file though the patience for it has passed, for the `times`th time.
    fn is_late(&self, times: u32) {
        match self.0.breaker.late(times, RECORD) {
            None => {}
            Some(Late::Slow) => {
                let file = self.0.path.as_deref().map(|path| path.display().to_string());
                let what = "the disk of the SQLite file is slow: scans get a 500 early, and their retries the decision once it is \
                            written. Check the disk, and what else uses it";
                tracing::warn!(file, "a commit takes longer than {RECORD:?}: {what}");
            }
            Some(Late::Still) => self.0.opened.notify_one(),
        }
    }

    /// What the outcome says of the database's health.
    fn diagnose(&self, kind: Kind, subjects: &[Subject], error: Option<&DatabaseError>) {
        let breaker = &self.0.breaker;
        if let Some(DatabaseError::Busy) = error {
            return; // what it says, others have said already: those who were answered
        }
        let is_open_now = match error.map(|error| (error, error.symptom(self.0.engine))) {
            None | Some((_, Symptom::Nothing)) => {
                if kind == Kind::Read {
                    self.0.turns.answered();
                }
                if breaker.succeeded(kind) {
                    tracing::info!("the disk of the SQLite file is fast enough again");
                }
                return;
            }
            // Another write has the one connection.
            Some((DatabaseError::Sqlx(sqlx::Error::PoolTimedOut), _))
                if kind == Kind::Write && self.0.engine == Engine::Sqlite =>
            {
                return self.is_late(1);
            }
            Some((error, Symptom::Illness)) => breaker.failed(kind, subjects, error),
            // Somebody holds what one of these wanted. Of several it is not known which one.
            Some((error, Symptom::Lock)) => subjects.len() == 1 && breaker.failed(kind, subjects, error),
        };
        if is_open_now {
            self.0.suspicion.arise();
            self.0.opened.notify_one();
        }
    }
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
    if done.is_ok() {
        transaction.commit().await?;
    } else if let Err(error) = transaction.rollback().await {
        tracing::debug!(%error, "nothing to roll back"); // why it failed is what matters
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
