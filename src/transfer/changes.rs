//! Reads the rows of a file, checks each one alone, and converts it to a change of the directory.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use super::csv::Csv;
use super::items::{Items, is_directory_file};
use super::jsonl::JsonLines;
use super::position::Position;
use super::record::{Header, Record, VERSION};
use super::{Format, TransferError};
use crate::digest::HashKey;
use crate::directory::{Change, Problem};

/// The size of the read buffer, in bytes.
const BUFFER: usize = 256 * 1024;

/// The number of bytes that are enough to distinguish a directory file from JSON lines.
const START: u64 = 1024;

/// The mark that some editors write at the start of UTF-8 text.
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
    pub(super) position: Position,
    /// The change that the row describes, or its problems.
    pub(super) change: Result<Change, Vec<Problem>>,
    /// Values that are valid but may be a mistake.
    pub(super) warnings: Vec<Problem>,
}

impl<'f> Changes<'f> {
    pub(super) fn open(mut file: &'f File, format: Format, hash_key: &'f HashKey) -> Result<Self, TransferError> {
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

    /// The number of bytes read.
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
            let Some((position, record)) = row else { return Ok(None) };
            let is_first = std::mem::replace(&mut self.is_first, false);
            let (change, warnings) = match record {
                Ok(Record::Export(header)) if is_first => {
                    self.begin_export(&header)?;
                    continue;
                }
                // No warnings for an export: no spreadsheet has changed it.
                Ok(record) if self.is_export => (record.change(self.hash_key, true), Vec::new()),
                Ok(record) => (record.change(self.hash_key, false), record.warnings()),
                Err(problem) => (Err(vec![problem]), Vec::new()),
            };
            return Ok(Some(Row { position, change, warnings }));
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
