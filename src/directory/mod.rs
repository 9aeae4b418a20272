//! Who is known: stores, shoppers, and the keys and tokens that stand for them.
//!
//! The directory answers with facts and decides nothing. Keys and tokens go in as they are presented and are looked up by
//! keyed hash. An error means that the directory could not tell, never that somebody is unknown.

mod check;
mod faulty;
pub mod file;
mod memory;

use std::sync::Arc;

use thiserror::Error;

pub use faulty::{Fault, Faults, FaultyDirectory};
pub use memory::MemoryDirectory;

use crate::domain::ids::StoreId;
use crate::domain::scan::KeyChannel;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::Store;
use crate::domain::visitor::Holder;

/// A directory could not be asked.
#[derive(Clone, Debug, Error)]
#[error("directory unavailable: {0}")]
pub struct DirectoryError(pub String);

/// What the directory knows of a key or token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registration {
    /// It was valid once.
    Revoked,
    /// It stands for somebody.
    Active {
        /// For whom.
        holder: Holder,
        /// The only channel by which it may be read, if it is limited to one.
        channel: Option<KeyChannel>,
    },
}

/// The directories that there are.
#[derive(Clone, Debug)]
pub enum Directory {
    /// Held in memory, read from a file at the start.
    Memory(Arc<MemoryDirectory>),
    /// One that fails on command.
    Faulty(FaultyDirectory),
}

impl Directory {
    /// What of it is held in memory.
    #[must_use]
    pub fn in_memory(&self) -> &MemoryDirectory {
        match self {
            Self::Memory(directory) => directory,
            Self::Faulty(directory) => directory.inner(),
        }
    }

    /// The store of that name.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn store(&self, id: &StoreId) -> Result<Option<Arc<Store>>, DirectoryError> {
        match self {
            Self::Memory(directory) => Ok(directory.store(id)),
            Self::Faulty(directory) => directory.store(id).await,
        }
    }

    /// What is known of an identity key, compared exactly.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn identity_key(&self, key: &str) -> Result<Option<Registration>, DirectoryError> {
        match self {
            Self::Memory(directory) => Ok(directory.identity_key(key)),
            Self::Faulty(directory) => directory.identity_key(key).await,
        }
    }

    /// What is known of a recognition token.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn recognition_token(&self, token: &RecognitionToken) -> Result<Option<Registration>, DirectoryError> {
        match self {
            Self::Memory(directory) => Ok(directory.recognition_token(token)),
            Self::Faulty(directory) => directory.recognition_token(token).await,
        }
    }
}
