//! The rows of a file, each checked by itself, as the changes that they ask for.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use super::csv::Csv;
use super::items::{Items, is_directory_file};
use super::jsonl::JsonLines;
use super::record::{Header, Record, VERSION};
use super::spot::Spot;
use super::{Format, TransferError};
use crate::digest::HashKey;
use crate::directory::{Change, Problem};

/// How much of a file is read at once.
const BUFFER: usize = 256 * 1024;

/// How much of a file is enough to tell a directory file from JSON lines.
const START: u64 = 1024;

/// What some editors put before a text in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a file from its start.
pub(super) struct Changes<'f> {
    rows: Rows<BufReader<&'f File>>,
    hash_key: &'f HashKey,
    is_first: bool,
    is_export: bool,
}

enum Rows<R> {
    JsonLines(JsonLines<R>),
    Csv(Box<Csv<R>>),
    DirectoryFile(Items<R>),
}

/// A row of a file.
pub(super) struct Row {
    pub(super) spot: Spot,
    /// The change that it asks for, or what is wrong with it.
    pub(super) change: Result<Change, Vec<Problem>>,
    /// What of it is sound and may not be meant.
    pub(super) doubts: Vec<Problem>,
}

impl<'f> Changes<'f> {
    pub(super) fn of(mut file: &'f File, format: Format, hash_key: &'f HashKey) -> Result<Self, TransferError> {
        file.seek(SeekFrom::Start(0))?;
        let mut start = Vec::new();
        file.take(START).read_to_end(&mut start)?;
        if let [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] = start.as_slice() {
            return Err(TransferError::Encoding);
        }
        let (text, skipped) = match start.strip_prefix(BYTE_ORDER_MARK) {
            Some(text) => (text, BYTE_ORDER_MARK.len()),
            None => (start.as_slice(), 0),
        };
        file.seek(SeekFrom::Start(skipped as u64))?;
        let input = BufReader::with_capacity(BUFFER, file);
        let rows = match format {
            Format::JsonLines if is_directory_file(text) => Rows::DirectoryFile(Items::new(input)),
            Format::JsonLines => Rows::JsonLines(JsonLines::new(input)),
            Format::Csv => Rows::Csv(Box::new(Csv::new(input)?)),
        };
        Ok(Self { rows, hash_key, is_first: true, is_export: false })
    }

    /// How much has been read.
    pub(super) fn bytes(&self) -> u64 {
        match &self.rows {
            Rows::JsonLines(rows) => rows.bytes(),
            Rows::Csv(rows) => rows.bytes(),
            Rows::DirectoryFile(rows) => rows.bytes(),
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, TransferError> {
        loop {
            let row = match &mut self.rows {
                Rows::JsonLines(rows) => rows.next()?,
                Rows::Csv(rows) => rows.next()?,
                Rows::DirectoryFile(rows) => rows.next()?,
            };
            let Some((spot, record)) = row else { return Ok(None) };
            let is_first = std::mem::replace(&mut self.is_first, false);
            let (change, doubts) = match record {
                Ok(Record::Export(header)) if is_first => {
                    self.begin_export(&header)?;
                    continue;
                }
                // No spreadsheet has been between a database and its export.
                Ok(record) if self.is_export => (record.change(self.hash_key, true), Vec::new()),
                Ok(record) => (record.change(self.hash_key, false), record.doubts()),
                Err(problem) => (Err(vec![problem]), Vec::new()),
            };
            return Ok(Some(Row { spot, change, doubts }));
        }
    }

    fn begin_export(&mut self, header: &Header) -> Result<(), TransferError> {
        if header.version != VERSION {
            return Err(TransferError::OtherVersion(header.version));
        }
        if header.hash_key_check != Header::new(self.hash_key).hash_key_check {
            return Err(TransferError::OtherHashKey);
        }
        self.is_export = true;
        Ok(())
    }
}
