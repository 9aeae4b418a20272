//! CSV. The first column has the kind of the row; the other columns are the members of all kinds of rows. An empty cell
//! is an absent member.
//!
//! Quotes are read strictly, as RFC 4180 says: a tolerant parser could lose every row up to the next quote. Outside
//! exports a row is one line, so that an unclosed quote affects that row only.

use std::io::{self, BufRead, Read as _, Write};

use serde_json::{Map, Value, json};

use super::record::{Line, Position, Record, RowKind};
use super::{MAX_ROW_BYTES, TransferError};
use crate::directory::{COLUMNS, Cell, Problem};

/// The column with the kind of a row.
const RECORD: &str = "record";

/// The columns of the first row of an export.
static EXPORT: [Column; 2] = [("version", Cell::Number), ("hashKeyCheck", Cell::Text)];

/// A column: its name, and how its cells give their member.
type Column = (&'static str, Cell);

/// All columns, in the order in which they are written.
fn all_columns() -> impl Iterator<Item = Column> {
    [(RECORD, Cell::Text)].into_iter().chain(EXPORT).chain(COLUMNS)
}

// Messages about the quotes of a row.
const NOT_CLOSED: &str =
    "has a quote that is not closed: a cell that begins with a quote must end with one, on the same line";
const TEXT_AFTER_QUOTE: &str = "has text after a closing quote: within a quoted cell, write each quote twice";
const BARE_QUOTE: &str = "has a quote in a cell that does not begin with one: put the whole cell in quotes, and write each quote within it twice";

/// The content of a row's cells.
type Cells = Vec<Vec<u8>>;

/// Reads one row at a time. Skips blank lines and rows of empty cells.
pub(super) struct Csv<R> {
    input: R,
    separator: u8,
    columns: Vec<Column>,
    /// Whether a row may contain line breaks: only in exports, where an id may have one.
    is_export: bool,
    is_first: bool,
    /// The number of lines read.
    line: u32,
    /// The row, without its end of line.
    text: Vec<u8>,
}

impl<R: BufRead> Csv<R> {
    pub(super) fn new(input: R) -> Result<Self, TransferError> {
        let (separator, columns, text) = (b',', Vec::new(), Vec::new());
        let mut csv = Self { input, separator, columns, is_export: false, is_first: true, line: 0, text };
        while csv.read_row()?.is_some() && csv.text.is_empty() {}
        if csv.text.contains(&b'\r') {
            return Err(TransferError::Header("lines end in CR alone: save the file with LF or CRLF".to_owned()));
        }
        csv.separator = separator_of(&csv.text);
        let header = split(&csv.text, csv.separator).map_err(|message| TransferError::Header(message.to_owned()))?;
        csv.columns = columns_of(&header)?;
        Ok(csv)
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>, TransferError> {
        while let Some(line) = self.read_row()? {
            let record = match split(&self.text, self.separator) {
                Ok(cells) if cells.iter().all(Vec::is_empty) => continue,
                Ok(cells) => {
                    let is_first = std::mem::replace(&mut self.is_first, false);
                    self.is_export |= is_first && cells.first().is_some_and(|kind| kind == b"export");
                    record(&self.columns, &cells)
                }
                // The start of the next row is unknown.
                Err(message) if self.is_export => return Err(TransferError::Quotes(line, message)),
                Err(message) => Err(Problem::new("row", message)),
            };
            return Ok(Some((Position::Line(line), record)));
        }
        Ok(None)
    }

    /// Reads the next row into `text`, and returns its first line.
    fn read_row(&mut self) -> Result<Option<u32>, TransferError> {
        self.text.clear();
        let (begins, mut quotes) = (self.line.saturating_add(1), 0_usize);
        loop {
            let before = self.text.len();
            let left = MAX_ROW_BYTES.saturating_sub(before) as u64;
            let read = self.input.by_ref().take(left).read_until(b'\n', &mut self.text)?;
            self.line = self.line.saturating_add(u32::from(read > 0));
            if self.text.len() == MAX_ROW_BYTES && !self.text.ends_with(b"\n") {
                return Err(TransferError::RowTooLong(begins));
            }
            let new = self.text.get(before..).unwrap_or_default();
            quotes = quotes.saturating_add(new.iter().filter(|byte| **byte == b'"').count());
            if read == 0 && before == 0 {
                return Ok(None);
            }
            // An odd number of quotes means that a quoted cell continues on the next line.
            if read == 0 || !self.is_export || quotes.is_multiple_of(2) {
                break;
            }
        }
        for end in [b'\n', b'\r'] {
            if self.text.last() == Some(&end) {
                self.text.pop();
            }
        }
        Ok(Some(begins))
    }
}

/// The separator of a file with this header. Spreadsheets write semicolons in countries that use a decimal comma.
fn separator_of(header: &[u8]) -> u8 {
    let after = header.strip_prefix(b"record").or_else(|| header.strip_prefix(b"\"record\""));
    match after.and_then(<[u8]>::first) {
        Some(separator @ (b';' | b'\t')) => *separator,
        _ => b',',
    }
}

/// The cells of a row, or a message about its quotes.
fn split(mut row: &[u8], separator: u8) -> Result<Cells, &'static str> {
    let mut cells = Vec::new();
    loop {
        let (cell, rest) = match row.strip_prefix(b"\"") {
            Some(quoted) => quoted_cell(quoted)?,
            None => plain_cell(row, separator)?,
        };
        cells.push(cell);
        match rest.split_first() {
            None => return Ok(cells),
            Some((next, rest)) if *next == separator => row = rest,
            Some(_) => return Err(TEXT_AFTER_QUOTE),
        }
    }
}

/// An unquoted cell, and the rest of the row from its separator on.
fn plain_cell(row: &[u8], separator: u8) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let end = row.iter().position(|byte| *byte == separator).unwrap_or(row.len());
    let (cell, rest) = row.split_at_checked(end).unwrap_or((row, &[]));
    if cell.contains(&b'"') { Err(BARE_QUOTE) } else { Ok((cell.to_vec(), rest)) }
}

/// A quoted cell, whose first quote is already read, and the rest of the row after its last quote.
fn quoted_cell(mut row: &[u8]) -> Result<(Vec<u8>, &[u8]), &'static str> {
    let mut cell = Vec::new();
    loop {
        let mut parts = row.splitn(2, |byte| *byte == b'"');
        let (Some(part), Some(after)) = (parts.next(), parts.next()) else { return Err(NOT_CLOSED) };
        cell.extend_from_slice(part);
        let Some(rest) = after.strip_prefix(b"\"") else { return Ok((cell, after)) };
        cell.push(b'"');
        row = rest;
    }
}

/// The columns that a header names. A message never repeats an unknown name: if the header is missing, it may be a key.
fn columns_of(header: &Cells) -> Result<Vec<Column>, TransferError> {
    let mut columns = Vec::new();
    for (number, name) in (1_u32..).zip(header) {
        let Some(column) = all_columns().find(|(column, _)| column.as_bytes() == name) else {
            let allowed = all_columns().map(|(column, _)| column).collect::<Vec<_>>().join(", ");
            return Err(TransferError::Header(format!("column {number} is unknown; the columns are {allowed}")));
        };
        if columns.contains(&column) {
            return Err(TransferError::Header(format!("column {number} repeats the column {}", column.0)));
        }
        columns.push(column);
    }
    match columns.first() {
        Some((RECORD, _)) => Ok(columns),
        _ => Err(TransferError::Header(format!("the first column must be {RECORD}, the kind of each row"))),
    }
}

/// Converts a row to JSON and then to a record.
fn record(columns: &[Column], cells: &Cells) -> Result<Record, Problem> {
    if cells.len() != columns.len() {
        let message = format!("has {} cells, but the header has {}", cells.len(), columns.len());
        return Err(Problem::new("row", message));
    }
    let (mut members, mut kind) = (Map::new(), String::new());
    for (&(column, cell), bytes) in columns.iter().zip(cells).filter(|(_, bytes)| !bytes.is_empty()) {
        let text =
            std::str::from_utf8(bytes).map_err(|_| Problem::new(column, "is not UTF-8: save the file as UTF-8"))?;
        match cell {
            _ if column == RECORD => text.clone_into(&mut kind),
            Cell::Within(object, name) => {
                let object = members.entry(object).or_insert_with(|| Map::new().into());
                object.as_object_mut().and_then(|object| object.insert(name.to_owned(), text.into()));
            }
            _ => {
                members.insert(column.to_owned(), value(column, cell, text)?);
            }
        }
    }
    if kind != "export" && RowKind::from_name(&kind).is_none() {
        return Err(Problem::new(RECORD, "must be store, shopper, identityKey, recognitionToken or customer"));
    }
    Record::read(json!({ kind: members }), true)
}

/// The JSON value of a cell.
fn value(column: &str, cell: Cell, text: &str) -> Result<Value, Problem> {
    Ok(match cell {
        // In any case, as spreadsheets write TRUE.
        Cell::Flag => match text.to_ascii_lowercase().parse::<bool>() {
            Ok(flag) => flag.into(),
            Err(_) => return Err(Problem::new(column, "must be true or false, or empty for its default")),
        },
        Cell::Number => match text.parse::<u64>() {
            Ok(number) => number.into(),
            Err(_) => return Err(Problem::new(column, "must be a whole number, digits only")),
        },
        Cell::Ids if text.starts_with('[') => serde_json::from_str(text)
            .map_err(|_| Problem::new(column, "begins with [ but is not a JSON array of strings"))?,
        Cell::Ids => text.split([' ', ';']).filter(|id| !id.is_empty()).collect::<Vec<_>>().into(),
        Cell::Text | Cell::Secret | Cell::Within(..) => text.into(),
    })
}

/// Ids as one cell: separated by spaces, or a JSON array if an id could not be read back from that.
fn joined(ids: &[Value]) -> String {
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    let is_plain = !ids.iter().any(|id| id.contains([' ', ';'])) && !ids.first().is_some_and(|id| id.starts_with('['));
    if is_plain { ids.join(" ") } else { json!(ids).to_string() }
}

/// Writes the header.
pub(super) fn write_header(out: &mut dyn Write) -> io::Result<()> {
    write_cells(out, written_columns().map(|(column, _)| column.to_owned()))
}

/// Writes one row.
pub(super) fn write(out: &mut dyn Write, record: &Record) -> io::Result<()> {
    let row = serde_json::to_value(record)?;
    let Some((kind, members)) = row.as_object().and_then(|row| row.iter().next()) else { return Ok(()) };
    let cell = |(column, cell)| match cell {
        _ if column == RECORD => kind.clone(),
        Cell::Within(object, name) => text(members.get(object).and_then(|object| object.get(name))),
        _ => text(members.get(column)),
    };
    write_cells(out, written_columns().map(cell))
}

fn write_cells(out: &mut dyn Write, cells: impl Iterator<Item = String>) -> io::Result<()> {
    let mut line = csv::WriterBuilder::new().buffer_capacity(1024).from_writer(Vec::new());
    line.write_record(cells)?;
    out.write_all(&line.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

fn written_columns() -> impl Iterator<Item = Column> {
    all_columns().filter(|(_, cell)| *cell != Cell::Secret)
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(ids)) => joined(ids),
        Some(value) => value.to_string(),
    }
}
