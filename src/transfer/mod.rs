//! The directory as a file: many rows brought in at once, and all of them taken out again.
//!
//! A file is JSON lines, CSV or a directory file; its rows are those of the directory file. Keys and tokens may go in as they are presented and
//! come out as the digests under which they are kept, so that an export opens no gate, and so do customers; it says under which hash key they were
//! made, and is refused where that is another. Files are read and written row by row, and nothing here knows a terminal.

mod bad_rows;
mod changes;
mod check;
mod csv;
mod export;
mod import;
mod items;
mod jsonl;
mod names;
mod record;
mod spot;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use thiserror::Error;

pub use bad_rows::BadRows;
pub use export::export;
pub use import::{Ended, Import, Report};
pub use spot::Spot;

use crate::directory::{Change, DirectoryError, Kind};

/// How many rows are looked up or listed at once.
const PAGE: usize = 500;

/// How many rows are written in one transaction: it is the commits that take the time.
const BATCH: usize = 2000;

/// The longest row, in bytes: a shopper with a thousand devices fits.
const LONGEST_ROW: usize = 1024 * 1024;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object a line; or a directory file, which is known by its first member.
    JsonLines,
    /// A table with a header, which says by what its cells are separated.
    Csv,
}

impl Format {
    /// The one that the ending of a file's name tells of.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// Why a file cannot be read or written, or what stands in it not be used, as a whole.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The file.
    #[error(transparent)]
    File(#[from] io::Error),
    /// Something that is gone once it is read.
    #[error("is no file: it is read twice, first to check it")]
    NotAFile,
    /// Text that is written in some other way.
    #[error("is UTF-16: save it as UTF-8")]
    Encoding,
    /// A table whose columns are not known.
    #[error("line 1, the header: {0}")]
    Header(String),
    /// A row without an end.
    #[error("line {0}: this row is longer than 1 MiB; is a quote not closed?")]
    Endless(u32),
    /// An export that was changed by hand, so that its next row cannot be found.
    #[error("line {0}: row: {1}; nothing of this export was imported")]
    Quotes(u32, &'static str),
    /// A directory file that is none.
    #[error("line {0}: this directory file is not the JSON that it is to be")]
    NotADirectory(u32),
    /// Another member than the lists of a directory file, or a list that it has twice.
    #[error(
        "line {0}: must be one of stores, shoppers, identityKeys, recognitionTokens and customers, each at most once"
    )]
    List(u32),
    /// Digests that mean nothing here.
    #[error(
        "security.hash_key: this file was exported under another hash key, so that nobody would be found by its digests. \
         Import it where that key is in use; or, for stores and shoppers alone, delete its first line and every row with a digest"
    )]
    OtherHashKey,
    /// Written by a later release.
    #[error("is an export of version {0}; this release reads version 1")]
    OtherVersion(u64),
    /// It is not what was checked.
    #[error("{0}: the file has changed since it was checked")]
    FileHasChanged(Spot),
    /// The directory did not do it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// How far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// How much of the file is done,
    pub bytes: u64,
    /// and how much there is to do; 0 where that is not known.
    pub total: u64,
    /// Rows done in this phase.
    pub rows: u64,
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A file is read and checked.
    Check,
    /// What stands in it is brought into the directory.
    Import,
    /// The directory is written to a file.
    Export,
}

/// Told now and then how far it has come; says whether to go on.
pub type Watch<'w> = &'w mut dyn FnMut(Progress) -> ControlFlow<()>;

/// How many of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Stores.
    pub stores: u64,
    /// Shoppers.
    pub shoppers: u64,
    /// Identity keys.
    pub identity_keys: u64,
    /// Recognition tokens.
    pub recognition_tokens: u64,
    /// Customers who are shoppers.
    pub customers: u64,
}

impl Counts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.stores, self.shoppers, self.identity_keys, self.recognition_tokens, self.customers]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    fn add(&mut self, change: &Change) {
        let count = match change {
            Change::PutStore(_) => &mut self.stores,
            Change::PutShopper(_) => &mut self.shoppers,
            Change::PutRegistration(Kind::IdentityKey, ..) => &mut self.identity_keys,
            Change::PutRegistration(Kind::RecognitionToken, ..) => &mut self.recognition_tokens,
            Change::LinkCustomer(..) => &mut self.customers,
            _ => return,
        };
        *count = count.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
