//! Opens the storage, and imports the directory file or the demo data.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::StartError;
use crate::config::{self, Config, DirectorySource};
use crate::digest::HashKey;
use crate::directory::file::{self, Content, Loaded};
use crate::directory::{Directory, DirectoryError, Faults, FaultsByKey, IdentityBackend};
use crate::ledger::{Ledger, MemoryLedger, SqlLedger};
use crate::shopper::carts::CartStore;
use crate::storage::Database;

const DEMO_DATA: &str = include_str!("../../config/demo-data.json");

/// The open storage.
pub(super) struct Storage {
    pub(super) database: Option<Database>,
    pub(super) directory: Arc<Directory>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) carts: Arc<CartStore>,
}

/// Opens the storage, and imports the directory file or the demo data.
pub(super) async fn open(config: &Config, faults: Faults, now: DateTime<Utc>) -> Result<Storage, StartError> {
    // The file is checked before a database is created or gets this key, so that a failed start leaves nothing behind.
    let loaded = config.hash_key.as_ref().map(|hash_key| read_source(&config.directory, hash_key)).transpose()?;
    let (database, directory, ledger) = match &config.storage {
        config::Storage::Memory => {
            let hash_key = config.hash_key.clone().map_or_else(HashKey::random, Ok)?;
            (None, Directory::in_memory(hash_key), Ledger::Memory(MemoryLedger::new(config.ledger)))
        }
        config::Storage::Database(location) => {
            let database = Database::open(location, config.hash_key.clone()).await?;
            let ledger = SqlLedger::open(database.clone(), config.ledger).await?;
            (Some(database.clone()), Directory::in_database(database), Ledger::Sql(ledger))
        }
    };
    let mut by_key = HashMap::new();
    let loaded = loaded.map_or_else(|| read_source(&config.directory, directory.hash_key()), Ok)?;
    if let Some(mut loaded) = loaded {
        by_key = std::mem::take(&mut loaded.faults);
        import(&directory, loaded, now).await?;
    }
    let directory =
        if config.mode.is_demo() { directory.with_faults(FaultsByKey::new(faults, by_key)) } else { directory };
    let directory = match config.identity_backend.clone() {
        Some(settings) => directory.with_backend(IdentityBackend::new(settings)),
        None => directory,
    };
    let carts = carts(config, database.as_ref(), directory.hash_key()).await?;
    Ok(Storage { database, directory: Arc::new(directory), ledger: Arc::new(ledger), carts: Arc::new(carts) })
}

/// Opens the carts: in the database of the directory, or in a separate SQLite file beside it.
async fn carts(config: &Config, database: Option<&Database>, hash_key: &HashKey) -> Result<CartStore, StartError> {
    let anonymous = config.commerce.as_ref().map_or(0, |commerce| commerce.anonymous_carts);
    Ok(match (&config.storage, database) {
        (config::Storage::Database(location), Some(database)) => {
            CartStore::in_database(database.open_carts(location).await?, anonymous)
        }
        _ => CartStore::in_memory(hash_key.clone(), anonymous),
    })
}

/// Imports the content of a directory file.
///
/// # Errors
/// If the directory cannot be changed. A part of the content may be imported then.
pub(super) async fn import(directory: &Directory, loaded: Loaded, now: DateTime<Utc>) -> Result<(), DirectoryError> {
    let changed = directory.apply_all(loaded.changes, now).await?;
    let Content { stores, shoppers, identity_keys, recognition_tokens, customers, .. } = loaded.content;
    tracing::info!(stores, shoppers, identity_keys, recognition_tokens, customers, changed, "directory file imported");
    Ok(())
}

/// Reads the directory file or the demo data, if there is one. `check-config` does so too.
pub fn read_source(source: &DirectorySource, hash_key: &HashKey) -> Result<Option<Loaded>, StartError> {
    Ok(match source {
        DirectorySource::Unchanged => None,
        DirectorySource::DemoData => Some(file::parse(DEMO_DATA, "demo-data.json", hash_key, true)?),
        DirectorySource::File { path, may_have_faults } => {
            let loaded = file::load(path, hash_key, *may_have_faults);
            Some(loaded.map_err(|error| StartError::DirectoryUnreadable { path: path.clone(), error })??)
        }
    })
}
