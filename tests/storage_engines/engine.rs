//! The engines that there are, and properties as trials on them.

use std::sync::OnceLock;

use libtest_mimic::Trial;
use serde_json::Value;

use crate::support::trials::{Property, trial};
use crate::support::{Postgres, Redis, Server};

pub(crate) use crate::support::trials::properties;

/// What keeps decisions and sessions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Engine {
    Memory,
    Sqlite,
    Postgres,
}

impl Engine {
    /// A connector on an empty ledger of its own.
    pub(crate) async fn demo(self, settings: &[(&str, &str)]) -> Server {
        self.try_demo(settings).await.unwrap()
    }

    /// The same, which knows those in this directory file.
    pub(crate) async fn with_directory(self, directory: &Value) -> Server {
        self.try_with_directory(directory).await.unwrap()
    }

    /// The same, or why it does not start.
    pub(crate) async fn try_with_directory(self, directory: &Value) -> Result<Server, String> {
        self.with_directory_and(directory, &[]).await
    }

    /// The same with settings.
    pub(crate) async fn with_directory_and(
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
                Server::try_postgres(database.url(), settings).await?.keeping_storage(database)
            }
        };
        Ok(server.sending_again())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// What it would need, where it is not there.
    pub(crate) fn missing(self) -> fn() -> Option<String> {
        match self {
            Self::Memory | Self::Sqlite => || None,
            Self::Postgres => Postgres::missing,
        }
    }
}

/// What must hold whatever keeps the ledger.
pub(crate) fn on_every_engine(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    [Engine::Memory, Engine::Sqlite, Engine::Postgres]
        .map(|engine| on(engine, module, properties))
        .into_iter()
        .flatten()
        .collect()
}

/// What only a ledger in memory does.
pub(crate) fn in_memory(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    on(Engine::Memory, module, properties)
}

/// What a file that one process has to itself does.
pub(crate) fn on_sqlite(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    on(Engine::Sqlite, module, properties)
}

/// What only a database does that connectors share.
pub(crate) fn on_postgres(module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    on(Engine::Postgres, module, properties)
}

/// What may happen to a server: each trial has one of its own.
pub(crate) fn on_a_postgres_of_its_own(module: &str, properties: &[(&str, Property<Postgres>)]) -> Vec<Trial> {
    let its_own = |property: &_| trial("postgres", module, *property, Postgres::missing, Postgres::start);
    properties.iter().map(its_own).collect()
}

/// What a Redis is for: each trial has one of its own.
pub(crate) fn on_a_redis_of_its_own(module: &str, properties: &[(&str, Property<Redis>)]) -> Vec<Trial> {
    let its_own = |property: &_| trial("redis", module, *property, Redis::missing, Redis::start);
    properties.iter().map(its_own).collect()
}

fn on(engine: Engine, module: &str, properties: &[(&str, Property<Engine>)]) -> Vec<Trial> {
    properties
        .iter()
        .map(|property| trial(engine.name(), module, *property, engine.missing(), move || engine))
        .collect()
}

/// The server of those trials that need no more than a database of their own. It may forget what it was told in a crash.
static POSTGRES: OnceLock<Postgres> = OnceLock::new();

pub(crate) fn postgres() -> &'static Postgres {
    POSTGRES.get_or_init(|| Postgres::start_with(&["fsync=off", "full_page_writes=off", "synchronous_commit=off"]))
}

/// To be called at the end: nothing is dropped that is static.
pub(crate) fn stop_shared_servers() {
    if let Some(postgres) = POSTGRES.get() {
        postgres.stop();
    }
}

/// A database, dropped with the connector on it: hundreds of them would fill a small disk.
pub(crate) struct Database(String);

impl Database {
    /// An empty one.
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
