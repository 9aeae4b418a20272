//! JSON lines: one object a line, with one member whose name is the kind of the row.

use std::io::{self, BufRead, Read as _, Write};

use super::position::Position;
use super::record::{Line, Record};
use super::{MAX_ROW_BYTES, TransferError};
use crate::directory::Problem;

/// Reads one line at a time. Skips blank lines.
pub(super) struct JsonLines<R> {
    input: R,
    line: u32,
    bytes: u64,
    text: Vec<u8>,
}

impl<R: BufRead> JsonLines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 0, bytes: 0, text: Vec::new() }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>, TransferError> {
        loop {
            self.text.clear();
            self.line = self.line.saturating_add(1);
            let read = self.input.by_ref().take(MAX_ROW_BYTES as u64).read_until(b'\n', &mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
            self.bytes = self.bytes.saturating_add(read as u64);
            if read == MAX_ROW_BYTES && !self.text.ends_with(b"\n") {
                return Err(TransferError::RowTooLong(self.line));
            }
            if !self.text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((Position::Line(self.line), record(&self.text))));
            }
        }
    }
}

/// Parses the row on a line.
pub(super) fn record(line: &[u8]) -> Result<Record, Problem> {
    let text = std::str::from_utf8(line).map_err(|_| Problem::new("row", "is not UTF-8: save the file as UTF-8"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let record = Record::read(&mut json, false)?;
    json.end().map_err(|_| Problem::new("row", "has text after the end of its JSON object"))?;
    Ok(record)
}

/// Writes one line.
pub(super) fn write(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}
