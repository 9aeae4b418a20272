//! The storage engines, and properties that are run as tests on them.

use std::sync::OnceLock;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::trials::{Property, trial};
use crate::support::{Postgres, Redis, Server};

pub(crate) use crate::support::trials::properties;

/// The storage of decisions and sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Memory,
    Sqlite,
    Postgres,
}

impl Engine {
    /// A connector with the demo's data on its own empty ledger.
    pub(crate) async fn demo(self, settings: &[(&str, &str)]) -> Server {
        self.try_demo(settings).await.unwrap()
    }

    /// A connector with this directory file.
    pub(crate) async fn with_directory(self, directory: &Value) -> Server {
        self.try_with_directory(directory).await.unwrap()
    }

    /// Starts a connector with this directory, or returns the error of the start.
    pub(crate) async fn try_with_directory(self, directory: &Value) -> Result<Server, String> {
        self.with_directory_and_settings(directory, &[]).await
    }

    /// Starts a connector with this directory and further settings.
    pub(crate) async fn with_directory_and_settings(
        self,
        directory: &Value,
        settings: &[(&str, &str)],
    ) -> Result<Server, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), directory.to_string()).unwrap();
        self.try_demo(&[&[("directory.file", file.path().to_str().unwrap())], settings].concat()).await
    }

    async fn try_demo(self, settings: &[(&str, &str)]) -> Result<Server, String> {
        let server = match self {
            Self::Memory => Server::try_demo(settings).await?,
            Self::Sqlite => Server::try_sqlite(settings).await?,
            Self::Postgres => {
                let database = Database::new();
                Server::try_postgres(database.url(), settings).await?.with_owned_storage(database)
            }
        };
        Ok(server.resending_timed_out_scans())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Returns what must be installed for the engine, if anything is missing.
    pub(crate) fn missing(self) -> fn() -> Option<String> {
        match self {
            Self::Memory | Self::Sqlite => || None,
            Self::Postgres => Postgres::missing,
        }
    }
}

/// Tests of a property on every engine.
pub(crate) fn trials_on_every_engine(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    [Engine::Memory, Engine::Sqlite, Engine::Postgres]
        .map(|engine| engine_trials(engine, module, properties))
        .into_iter()
        .flatten()
        .collect()
}

/// Tests of a property of the ledger in memory.
pub(crate) fn trials_in_memory(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    engine_trials(Engine::Memory, module, properties)
}

/// Tests of a property of a SQLite file.
pub(crate) fn trials_on_sqlite(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    engine_trials(Engine::Sqlite, module, properties)
}

/// Tests of a property of a database that connectors share.
pub(crate) fn trials_on_postgres(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    engine_trials(Engine::Postgres, module, properties)
}

/// Tests that stop or break a PostgreSQL server. Each has its own server.
pub(crate) fn trials_with_own_postgres(module: &str, properties: &[(&str, Property<Postgres>)]) -> Vec<Trial> {
    let own = |property: &_| trial("postgres", module, *property, Postgres::missing, Postgres::start);
    properties.iter().map(own).collect()
}

/// Tests with Redis. Each has its own server.
pub(crate) fn trials_with_own_redis(module: &str, properties: &[(&str, Property<Redis>)]) -> Vec<Trial> {
    let own = |property: &_| trial("redis", module, *property, Redis::missing, Redis::start);
    properties.iter().map(own).collect()
}

fn engine_trials(engine: Engine, module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    properties
        .iter()
        .map(|property| trial(engine.name(), module, *property, engine.missing(), move || engine))
        .collect()
}

/// The PostgreSQL server that tests share which need only their own database. It does not survive a crash, which makes
/// it faster.
static POSTGRES: OnceLock<Postgres> = OnceLock::new();

pub(crate) fn postgres() -> &'static Postgres {
    POSTGRES.get_or_init(|| Postgres::start_with(&["fsync=off", "full_page_writes=off", "synchronous_commit=off"]))
}

/// Stops the shared server. Must be called at the end, since static values are not dropped.
pub(crate) fn stop_shared_servers() {
    if let Some(postgres) = POSTGRES.get() {
        postgres.stop();
    }
}

/// A database on the shared server, removed when dropped, since hundreds of them would fill a small disk.
pub(crate) struct Database(String);

impl Database {
    /// An empty database.
    pub(crate) fn new() -> Self {
        Self(postgres().database())
    }

    pub(crate) fn url(&self) -> &str {
        &self.0
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        postgres().discard(&self.0);
    }
}
