//! CSV: a table whose first column says what a row is, and whose other columns are the members of all kinds of rows. An empty cell
//! is one that is not there.

use std::io::{self, BufRead, Write};

use csv_core::ReadRecordResult;
use serde_json::{Map, Value, json};

use super::record::{Line, Record};
use super::{LONGEST_ROW, TransferError};
use crate::directory::Problem;

/// What a row is.
const RECORD: &str = "record";
const DEVICES: &str = "devices";
/// Members of a shopper's payment method: column, and name within `paymentMethod`.
const PAYMENT_METHOD: [(&str, &str); 2] = [("paymentMethodId", "id"), ("paymentMethodLastMonth", "lastMonth")];

/// The columns that there are, in the order in which they are written.
const COLUMNS: [&str; 23] = [
    RECORD,
    "version",
    "hashKeyCheck",
    "id",
    "enabled",
    "takesCash",
    "defaultGateDecision",
    "scanKeyWindowSeconds",
    "exitPolicy",
    "type",
    "account",
    "paymentMethodId",
    "paymentMethodLastMonth",
    DEVICES,
    "key",
    "token",
    "issuer",
    "subject",
    "digest",
    "shopper",
    "channel",
    "device",
    "revoked",
];

/// What is never told.
const SECRET: [&str; 4] = ["key", "token", "issuer", "subject"];

/// What stands in the cells of a row.
type Cells = Vec<Vec<u8>>;

/// Reads one row after the other; blank lines are passed over.
pub(super) struct Csv<R> {
    input: R,
    core: csv_core::Reader,
    columns: Vec<&'static str>,
    line: u32,
    bytes: u64,
    /// The cells of a row without what separated them, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl<R: BufRead> Csv<R> {
    pub(super) fn new(input: R) -> Result<Self, TransferError> {
        let (core, text, ends) = (csv_core::Reader::new(), vec![0; LONGEST_ROW], vec![0; 1024]);
        let mut csv = Self { input, core, columns: Vec::new(), line: 1, bytes: 0, text, ends };
        let header = csv.cells()?.map(|(_, cells)| cells).unwrap_or_default();
        csv.columns = columns(&header)?;
        Ok(csv)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next(&mut self) -> Result<Option<Line>, TransferError> {
        let Some((line, cells)) = self.cells()? else { return Ok(None) };
        Ok(Some((line, record(&self.columns, &cells))))
    }

    /// The cells of the next row, and the line on which it begins.
    fn cells(&mut self) -> Result<Option<(u32, Cells)>, TransferError> {
        // The second half of an end of line, and blank lines.
        while let Some(b'\r' | b'\n') = self.input.fill_buf()?.first() {
            self.line = self.line.saturating_add(u32::from(self.input.fill_buf()?.first() == Some(&b'\n')));
            self.consume(1);
        }
        let begins = self.line;
        let (mut written, mut ended) = (0_usize, 0_usize);
        loop {
            let input = self.input.fill_buf()?;
            let (text, ends) = (self.text.get_mut(written..), self.ends.get_mut(ended..));
            let (result, read, wrote, cells) =
                self.core.read_record(input, text.unwrap_or_default(), ends.unwrap_or_default());
            let lines = input.iter().take(read).filter(|byte| **byte == b'\n').count();
            self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
            self.consume(read);
            written = written.saturating_add(wrote);
            ended = ended.saturating_add(cells);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(TransferError::Endless(begins));
                }
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(None),
            }
        }
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let cell = |(start, end): (usize, &usize)| self.text.get(start..*end).unwrap_or_default().to_vec();
        Ok(Some((begins, starts.zip(self.ends.iter().take(ended)).map(cell).collect())))
    }

    fn consume(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }
}

/// The columns of a file, by its header. A name that is none is not repeated: where the header is missing, it may be a key.
fn columns(header: &Cells) -> Result<Vec<&'static str>, TransferError> {
    let mut columns = Vec::new();
    for (number, name) in (1_u32..).zip(header) {
        let Some(column) = COLUMNS.into_iter().find(|column| column.as_bytes() == name) else {
            let known = COLUMNS.join(", ");
            return Err(TransferError::Header(format!("column {number} is none of: {known}")));
        };
        if columns.contains(&column) {
            return Err(TransferError::Header(format!("column {number} is the second one of its name, {column}")));
        }
        columns.push(column);
    }
    match columns.first() {
        Some(&RECORD) => Ok(columns),
        _ => Err(TransferError::Header(format!("the first column must be {RECORD}, which says what a row is"))),
    }
}

/// A row, by way of the JSON that says the same.
fn record(columns: &[&'static str], cells: &Cells) -> Result<Record, Problem> {
    if cells.len() != columns.len() {
        let what = format!("has {} cells, and the header {}", cells.len(), columns.len());
        return Err(Problem::new("row", what));
    }
    let (mut members, mut payment_method, mut kind) = (Map::new(), Map::new(), String::new());
    for (column, cell) in columns.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        let text = std::str::from_utf8(cell).map_err(|_| Problem::new(*column, "is not UTF-8"))?;
        if *column == RECORD {
            text.clone_into(&mut kind);
        } else if let Some((_, name)) = PAYMENT_METHOD.iter().find(|(its, _)| its == column) {
            payment_method.insert((*name).to_owned(), text.into());
        } else {
            members.insert((*column).to_owned(), value(column, text)?);
        }
    }
    if !payment_method.is_empty() {
        members.insert("paymentMethod".to_owned(), payment_method.into());
    }
    if !["export", "store", "shopper", "identityKey", "recognitionToken", "customer"].contains(&kind.as_str()) {
        return Err(Problem::new(RECORD, "must be store, shopper, identityKey, recognitionToken or customer"));
    }
    Record::read(json!({ kind: members }), true)
}

/// What a cell says. What is no flag or number stays a text, which is refused with the name of its column.
fn value(column: &str, text: &str) -> Result<Value, Problem> {
    Ok(match column {
        // As spreadsheets write them, too.
        "enabled" | "takesCash" | "revoked" => match text.to_ascii_lowercase().parse::<bool>() {
            Ok(flag) => flag.into(),
            Err(_) => text.into(),
        },
        "scanKeyWindowSeconds" | "version" => text.parse::<u64>().map_or_else(|_| text.into(), Value::from),
        DEVICES if text.starts_with('[') => serde_json::from_str(text)
            .map_err(|_| Problem::new(DEVICES, "begins with [ and is no JSON array of texts"))?,
        DEVICES => text.split([' ', ';']).filter(|id| !id.is_empty()).collect::<Vec<_>>().into(),
        _ => text.into(),
    })
}

/// Devices as one cell: ids with spaces between them or, where an id would not come back from that, a JSON array.
fn devices(ids: &[Value]) -> String {
    let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
    let is_plain = !ids.iter().any(|id| id.contains([' ', ';'])) && !ids.first().is_some_and(|id| id.starts_with('['));
    if is_plain { ids.join(" ") } else { json!(ids).to_string() }
}

/// Writes rows under a header.
pub(super) struct CsvWriter<W: Write>(csv::Writer<W>);

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(out: W) -> io::Result<Self> {
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(told())?;
        Ok(Self(writer))
    }

    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        let row = serde_json::to_value(record)?;
        let Some((kind, members)) = row.as_object().and_then(|row| row.iter().next()) else { return Ok(()) };
        let cell = |column| match column {
            RECORD => kind.clone(),
            _ => match PAYMENT_METHOD.iter().find(|(its, _)| *its == column) {
                Some((_, name)) => text(members.get("paymentMethod").and_then(|method| method.get(name))),
                None => text(members.get(column)),
            },
        };
        Ok(self.0.write_record(told().map(cell))?)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The columns that are written.
fn told() -> impl Iterator<Item = &'static str> {
    COLUMNS.into_iter().filter(|column| !SECRET.contains(column))
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(ids)) => devices(ids),
        Some(value) => value.to_string(),
    }
}
