//! JSON lines, one object a line, with one member whose name is the kind of the row; and directory files, a JSON object
//! with lists of rows. Only one row is in memory at a time.

use std::io::{self, BufRead, Read as _, Write};

use super::record::{Line, Position, Record, RowKind};
use super::{MAX_ROW_BYTES, TransferError};
use crate::directory::Problem;

/// Reads one line at a time. Skips blank lines.
pub(super) struct JsonLines<R> {
    input: R,
    line: u32,
    text: Vec<u8>,
}

impl<R: BufRead> JsonLines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 0, text: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>, TransferError> {
        loop {
            self.text.clear();
            self.line = self.line.saturating_add(1);
            let read = self.input.by_ref().take(MAX_ROW_BYTES as u64).read_until(b'\n', &mut self.text)?;
            if read == 0 {
                return Ok(None);
            }
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
fn record(line: &[u8]) -> Result<Record, Problem> {
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

/// Whether a file with this start is a directory file: its first member is one of the lists.
pub(super) fn is_directory_file(start: &[u8]) -> bool {
    let Some(member) = start.trim_ascii_start().strip_prefix(b"{") else { return false };
    let name = member.trim_ascii_start().strip_prefix(b"\"").unwrap_or_default();
    let is_list =
        |kind: RowKind| name.strip_prefix(kind.name().as_bytes()).is_some_and(|rest| rest.starts_with(b"s\""));
    RowKind::ALL.into_iter().any(is_list)
}

/// Reads the rows of all lists.
pub(super) struct Items<R> {
    input: R,
    line: u32,
    /// The current list, and how many of its rows have been read.
    list: Option<(RowKind, u32)>,
    /// The lists that have been found.
    opened: Vec<RowKind>,
    is_at_end: bool,
    /// The text of the current value.
    text: Vec<u8>,
}

impl<R: BufRead> Items<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 1, list: None, opened: Vec::new(), is_at_end: false, text: Vec::new() }
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>, TransferError> {
        let (list, number) = loop {
            if let Some(list) = self.list {
                break list;
            }
            if self.is_at_end || !self.open_list()? {
                return Ok(None);
            }
        };
        self.text.clear();
        self.text.extend_from_slice(format!("{{\"{}\":", list.name()).as_bytes());
        self.value()?;
        self.text.push(b'}');
        let record = record(&self.text);
        self.list = match self.token()? {
            b',' => Some((list, number.saturating_add(1))),
            b']' => None,
            _ => return Err(self.malformed()),
        };
        Ok(Some((Position::Item(list, number), record)))
    }

    /// Goes to the first row of the next list, which may be empty. Returns `false` at the end of the file.
    fn open_list(&mut self) -> Result<bool, TransferError> {
        match self.token()? {
            b'{' if self.opened.is_empty() => {}
            b',' if !self.opened.is_empty() => {}
            b'}' if !self.opened.is_empty() => {
                self.is_at_end = self.peek()?.is_none();
                return if self.is_at_end { Ok(false) } else { Err(self.malformed()) };
            }
            _ => return Err(self.malformed()),
        }
        self.text.clear();
        self.value()?;
        let name = serde_json::from_slice::<String>(&self.text).map_err(|_| self.malformed())?;
        let list = name.strip_suffix('s').and_then(RowKind::from_name);
        let list = list.filter(|list| !self.opened.contains(list)).ok_or(TransferError::List(self.line))?;
        self.opened.push(list);
        for expected in [b':', b'['] {
            if self.token()? != expected {
                return Err(self.malformed());
            }
        }
        self.list = if self.peek()? == Some(b']') { self.token().map(|_| None)? } else { Some((list, 0)) };
        Ok(true)
    }

    /// Appends the next value to `text`. The value is parsed as JSON later, as part of a row.
    fn value(&mut self) -> Result<(), TransferError> {
        let (begins, before) = (self.line, self.text.len());
        let (mut depth, mut in_text, mut is_escaped) = (0_u32, false, false);
        let mut next = self.peek()?;
        while let Some(byte) = next {
            let is_outside = depth == 0 && !in_text;
            if is_outside && (matches!(byte, b',' | b':' | b']' | b'}') || byte.is_ascii_whitespace()) {
                break;
            }
            if self.text.len() == MAX_ROW_BYTES {
                return Err(TransferError::RowTooLong(begins));
            }
            self.take(byte);
            self.text.push(byte);
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' if in_text => is_escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && !in_text && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
            next = self.input.fill_buf()?.first().copied();
        }
        if self.text.len() == before { Err(self.malformed()) } else { Ok(()) }
    }

    /// Reads the next byte that is not white space.
    fn token(&mut self) -> Result<u8, TransferError> {
        let byte = self.peek()?.ok_or_else(|| self.malformed())?;
        self.take(byte);
        Ok(byte)
    }

    /// The next byte that is not white space, without reading it.
    fn peek(&mut self) -> Result<Option<u8>, TransferError> {
        loop {
            match self.input.fill_buf()?.first().copied() {
                Some(blank) if blank.is_ascii_whitespace() => self.take(blank),
                other => return Ok(other),
            }
        }
    }

    fn take(&mut self, byte: u8) {
        self.line = self.line.saturating_add(u32::from(byte == b'\n'));
        self.input.consume(1);
    }

    fn malformed(&self) -> TransferError {
        TransferError::NotADirectory(self.line)
    }
}
