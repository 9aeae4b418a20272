//! The rows of a file, each checked by itself, as the changes that they ask for.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, SeekFrom};

use super::csv::Csv;
use super::jsonl::JsonLines;
use super::record::{Header, Record, VERSION};
use super::{Format, TransferError};
use crate::digest::HashKey;
use crate::directory::{Change, Problem};

/// How much of a file is read at once.
const BUFFER: usize = 256 * 1024;

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
}

/// A row: its line, and the change that it asks for or what is wrong with it.
pub(super) type Row = (u32, Result<Change, Vec<Problem>>);

impl<'f> Changes<'f> {
    pub(super) fn of(mut file: &'f File, format: Format, hash_key: &'f HashKey) -> Result<Self, TransferError> {
        file.seek(SeekFrom::Start(0))?;
        let mut start = Vec::new();
        file.take(3).read_to_end(&mut start)?;
        match start.as_slice() {
            [0xEF, 0xBB, 0xBF] => {}
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Err(TransferError::Encoding),
            _ => drop(file.seek(SeekFrom::Start(0))?),
        }
        let input = BufReader::with_capacity(BUFFER, file);
        let rows = match format {
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
        }
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, TransferError> {
        loop {
            let row = match &mut self.rows {
                Rows::JsonLines(rows) => rows.next()?,
                Rows::Csv(rows) => rows.next()?,
            };
            let Some((line, record)) = row else { return Ok(None) };
            let is_first = std::mem::replace(&mut self.is_first, false);
            let change = match record {
                Ok(Record::Export(header)) if is_first => {
                    self.begin_export(&header)?;
                    continue;
                }
                Ok(record) => record.change(self.hash_key, self.is_export),
                Err(problem) => Err(vec![problem]),
            };
            return Ok(Some((line, change)));
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
