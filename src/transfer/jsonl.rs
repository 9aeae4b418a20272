//! JSON lines: an object a line, with one member that says what it is.

use std::io::{self, BufRead, Read as _, Write};

use super::record::{Line, Record};
use super::spot::Spot;
use super::{LONGEST_ROW, TransferError};
use crate::directory::Problem;

/// Reads one line after the other; blank ones are passed over.
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
            let read = self.input.by_ref().take(LONGEST_ROW as u64).read_until(b'\n', &mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
            self.bytes = self.bytes.saturating_add(read as u64);
            if read == LONGEST_ROW && !self.text.ends_with(b"\n") {
                return Err(TransferError::Endless(self.line));
            }
            if !self.text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((Spot::Line(self.line), record(&self.text))));
            }
        }
    }
}

/// The row that such a line is.
pub(super) fn record(line: &[u8]) -> Result<Record, Problem> {
    let text = std::str::from_utf8(line).map_err(|_| Problem::new("row", "is not UTF-8: save the file as UTF-8"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let record = Record::read(&mut json, false)?;
    json.end().map_err(|_| Problem::new("row", "goes on behind its end"))?;
    Ok(record)
}

/// Writes one line.
pub(super) fn write(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}
