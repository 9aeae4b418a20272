//! The storage engines that a test can run on.

use std::sync::OnceLock;

use serde_json::Value;

use crate::support::{HASH_KEY, Postgres, Server, Transaction, file_with};

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
        self.with_directory_and_settings(directory, &[]).await.unwrap()
    }

    /// Starts a connector with this directory and further settings, or returns the error of the start.
    pub(crate) async fn with_directory_and_settings(
        self,
        directory: &Value,
        settings: &[(&str, &str)],
    ) -> Result<Server, String> {
        let file = file_with(directory.to_string());
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

    /// The settings of a connector on this database.
    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [("storage.url", &self.0), ("security.hash_key", HASH_KEY)]
    }

    /// Runs a statement and returns its output.
    pub(crate) fn query(&self, statement: &str) -> String {
        postgres().query(&self.0, statement).trim().to_owned()
    }

    /// Begins a transaction with these statements and leaves it open.
    pub(crate) fn begin(&self, statements: &str) -> Transaction {
        postgres().begin(&self.0, statements)
    }

    /// The number of tables.
    pub(crate) fn tables(&self) -> usize {
        self.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").parse().unwrap()
    }

    /// The number of connections to this database that wait for a lock.
    pub(crate) fn waiting(&self) -> usize {
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        self.query(waiting).parse().unwrap()
    }

    /// Lets connections to this database only read, or write again, as on a standby and its promotion.
    pub(crate) fn set_read_only(&self, is_read_only: bool) {
        let name = self.0.rsplit('/').next().unwrap();
        let how = format!("ALTER DATABASE {name} SET default_transaction_read_only = {is_read_only}");
        self.query(&format!("SET TRANSACTION READ WRITE; {how}"));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        postgres().discard(&self.0);
    }
}
