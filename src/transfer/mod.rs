//! Import and export of the directory: as JSON lines or CSV; a directory file can be imported too.
//!
//! An import may contain keys, tokens and customers in clear or as digests. An export has digests only, so it cannot
//! be used to open a gate. Its first row identifies the hash key of the digests; an import with another hash key is
//! refused. Files are read and written row by row, so memory use is bounded. This module does not write to the
//! terminal.

mod check;
mod csv;
mod export;
mod import;
#[cfg(test)]
mod import_tests;
mod json;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use clap::ValueEnum;
use thiserror::Error;

pub(crate) use export::export;
pub(crate) use import::{Ended, Import, Report};
pub(crate) use record::RowKind;

use crate::directory::DirectoryError;
use record::Position;

/// The number of rows that one query lists or looks up.
const PAGE: usize = 500;

/// The number of rows that one transaction writes. Most of the time goes into commits.
const BATCH: usize = 2000;

/// The maximum length of a row, in bytes: enough for a shopper with a thousand devices.
const MAX_ROW_BYTES: usize = 1024 * 1024;

/// The format of a file. The comments of the values are in the help of the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    // Or a directory file, which is recognized by its first member.
    /// One JSON object a line
    #[value(name = "jsonl")]
    JsonLines,
    // The header shows the separator.
    /// A table with a header line
    Csv,
}

impl Format {
    /// The format for a file name extension.
    pub(crate) fn from_file_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// Why a whole file cannot be imported or exported.
#[derive(Debug, Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    File(#[from] io::Error),
    /// Not a regular file, such as a pipe, which cannot be read twice.
    #[error("is not a regular file: import reads it twice, first to check it")]
    NotAFile,
    #[error("is UTF-16: save it as UTF-8")]
    Encoding,
    /// The header of a CSV file is invalid.
    #[error("line 1, the header: {0}")]
    Header(String),
    #[error("line {0}: this row is longer than 1 MiB; is a quote not closed?")]
    RowTooLong(u32),
    /// The quotes of an export in CSV are invalid, so that the start of the next row is unknown.
    #[error("line {0}: row: {1}; nothing of this export was imported")]
    Quotes(u32, &'static str),
    #[error("line {0}: this directory file is not a JSON object with lists of rows")]
    NotADirectory(u32),
    /// A directory file has an unknown member, or a list twice.
    #[error(
        "line {0}: must be one of stores, shoppers, identityKeys, recognitionTokens and customers, each at most once"
    )]
    List(u32),
    #[error(
        "security.hash_key: this file was exported with a different hash key, so its digests would match nothing here. \
         Import it where that key is in use; or, to import only stores and shoppers, delete its first line and every row with a digest"
    )]
    OtherHashKey,
    #[error("is an export of version {0}; this release reads version 1")]
    OtherVersion(u64),
    #[error("{0}: the file has changed since it was checked")]
    FileHasChanged(Position),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

/// The progress of an import or export.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    pub phase: Phase,
    /// The number of bytes done.
    pub bytes: u64,
    /// The total number of bytes; 0 if unknown.
    pub total: u64,
    /// The number of rows done in this phase.
    pub rows: u64,
}

/// A phase of an import or export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The file is read and checked.
    Check,
    /// The rows of the file are written to the directory.
    Import,
    /// The directory is written to a file.
    Export,
}

/// Called from time to time with the progress. It returns whether to continue.
pub(crate) type OnProgress<'w> = &'w mut dyn FnMut(Progress) -> ControlFlow<()>;

/// The number of rows of each kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts(BTreeMap<RowKind, u64>);

impl Counts {
    /// The number of rows of this kind.
    pub(crate) fn of(&self, kind: RowKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// The number of rows of all kinds.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().copied().fold(0, u64::saturating_add)
    }

    fn add(&mut self, kind: RowKind) {
        let count = self.0.entry(kind).or_default();
        *count = count.saturating_add(1);
    }
}
