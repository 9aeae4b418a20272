//! The rows of a file, with the same members in every format: reads each one, checks it alone, and converts it to a
//! change of the directory.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};

use serde::{Deserialize, Deserializer, Serialize};

use super::csv::Csv;
use super::json::{Items, JsonLines, is_directory_file};
use super::{Format, TransferError};
use crate::digest::HashKey;
use crate::directory::file::describe;
use crate::directory::{self, Change, CustomerRow, IdentityKeyRow, Problem, RecognitionTokenRow, ShopperRow, StoreRow};

/// The version of exports that this release writes.
const VERSION: u64 = 1;
/// The size of the read buffer, in bytes.
const BUFFER: usize = 256 * 1024;
/// The number of bytes that are enough to distinguish a directory file from JSON lines.
const START: u64 = 1024;
/// The mark that some editors write at the start of UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

const SURROUNDING_SPACE: &str =
    "begins or ends with whitespace, which is kept as part of the value: remove it if this is not intended";
const ROUNDED_NUMBER: &str =
    "looks like a long number that a spreadsheet has rounded: format the column as text and enter the number again";

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RowKind {
    Store,
    Shopper,
    IdentityKey,
    RecognitionToken,
    Customer,
}

impl RowKind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Store, Self::Shopper, Self::IdentityKey, Self::RecognitionToken, Self::Customer];

    /// The member that has a row of this kind. In a directory file, a list with this name and an `s` has the rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Shopper => "shopper",
            Self::IdentityKey => "identityKey",
            Self::RecognitionToken => "recognitionToken",
            Self::Customer => "customer",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether a row of this kind names a shopper, which must exist first.
    pub(super) fn is_link(self) -> bool {
        !matches!(self, Self::Store | Self::Shopper)
    }
}

/// The position of a row in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Position {
    /// The first line of the row, from 1 on.
    Line(u32),
    /// The list of a directory file, and the number of the row in it, from 0 on.
    Item(RowKind, u32),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Item(kind, number) => write!(f, "{}s[{number}]", kind.name()),
        }
    }
}

/// A row, named by its kind.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Record {
    Export(Header),
    Store(StoreRow),
    Shopper(ShopperRow),
    IdentityKey(IdentityKeyRow),
    RecognitionToken(RecognitionTokenRow),
    Customer(CustomerRow),
}

/// The position of a row, and the row or its problem.
pub(super) type Line = (Position, Result<Record, Problem>);

/// The first row of an export. Later versions may add members.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Header {
    version: u64,
    /// Identifies the hash key that made the digests in this file.
    hash_key_check: String,
}

impl Header {
    pub(super) fn new(hash_key: &HashKey) -> Self {
        Self { version: VERSION, hash_key_check: hex::encode(hash_key.check_value()) }
    }
}

impl Record {
    /// Reads a row. `show_unknown_names`: whether an error may contain the name of an unknown member, which
    /// may be a misplaced key.
    pub(super) fn read<'de, D>(from: D, show_unknown_names: bool) -> Result<Self, Problem>
    where
        D: Deserializer<'de, Error = serde_json::Error>,
    {
        serde_path_to_error::deserialize(from).map_err(|error| {
            let (path, message) = (error.path().to_string(), describe(error.inner()));
            let shown_path = match path.rsplit_once('.') {
                Some((row, _)) if message.starts_with("unknown field") && !show_unknown_names => row.to_owned(),
                Some((row, "?")) => row.to_owned(),
                _ if path == "." || path == "?" => "row".to_owned(),
                _ => path,
            };
            Problem::new(shown_path, without_rust_terms(&message))
        })
    }

    /// Checks the row and converts it to a change. `is_export`: whether the file begins with the row that identifies
    /// the hash key.
    fn change(&self, hash_key: &HashKey, is_export: bool) -> Result<(RowKind, Change), Vec<Problem>> {
        let Some((kind, row)) = self.row() else {
            return Err(vec![Problem::new("export", "is allowed in the first row only")]);
        };
        let change = match row.given_digest() {
            Some(_) if !is_export => Err(vec![Problem::new(
                "digest",
                "requires the first row of the export (the \"export\" row), because that row identifies the hash key: add it back",
            )]),
            _ => row.change(hash_key),
        };
        let within = |problems: Vec<Problem>| problems.into_iter().map(|problem| problem.within(kind.name())).collect();
        change.map(|change| (kind, change)).map_err(within)
    }

    /// Warnings about valid values that may be a mistake. A warning never repeats a value, which may be a key.
    fn warnings(&self) -> Vec<Problem> {
        let Some((kind, row)) = self.row() else { return Vec::new() };
        let mut warnings = Vec::new();
        row.see_texts(&mut |member, text| {
            let message = match text {
                Some(text) if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) => {
                    SURROUNDING_SPACE
                }
                Some(text) if is_rounded_number(text) => ROUNDED_NUMBER,
                _ => return,
            };
            warnings.push(Problem::new(member, message).within(kind.name()));
        });
        warnings
    }

    /// The kind of the row, unless it is the first row of an export.
    pub(super) fn kind(&self) -> Option<RowKind> {
        self.row().map(|(kind, _)| kind)
    }

    /// The row of the directory, unless it is the first row of an export.
    fn row(&self) -> Option<(RowKind, &dyn directory::Row)> {
        match self {
            Self::Export(_) => None,
            Self::Store(row) => Some((RowKind::Store, row)),
            Self::Shopper(row) => Some((RowKind::Shopper, row)),
            Self::IdentityKey(row) => Some((RowKind::IdentityKey, row)),
            Self::RecognitionToken(row) => Some((RowKind::RecognitionToken, row)),
            Self::Customer(row) => Some((RowKind::Customer, row)),
        }
    }
}

/// Whether this is a long number that a spreadsheet has rounded, such as 4.71E+12.
fn is_rounded_number(text: &str) -> bool {
    let Some((number, exponent)) = text.split_once("E+") else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(exponent) && number.split(['.', ',']).all(digits)
}

/// Rewrites a message of serde for readers who do not know Rust, and removes the line number, which [`Position`] has.
fn without_rust_terms(message: &str) -> String {
    let message = match message.rsplit_once(" at line ") {
        Some((message, position)) => match position.rsplit_once(" column ") {
            Some((_, column)) => format!("{message} (column {column})"),
            None => message.to_owned(),
        },
        None => message.to_owned(),
    };
    match message.split_once("expected struct ") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
            format!("{before}expected an object{rest}")
        }
        None => message,
    }
}

/// Reads a file from its start.
pub(super) struct Changes<'f> {
    file: &'f File,
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
    pub(super) change: Result<(RowKind, Change), Vec<Problem>>,
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
        Ok(Self { file, rows, hash_key, is_first: true, is_export: false })
    }

    /// The number of bytes read, with what the buffer still has.
    pub(super) fn bytes(&mut self) -> io::Result<u64> {
        self.file.stream_position()
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
