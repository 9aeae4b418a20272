//! A row of a file, with the same members in every format.

use serde::{Deserialize, Deserializer, Serialize};

use super::position::Position;
use crate::digest::HashKey;
use crate::directory::file::describe;
use crate::directory::{Change, CustomerRow, IdentityKeyRow, Problem, RecognitionTokenRow, Row, ShopperRow, StoreRow};

/// The version of exports that this release writes.
pub(super) const VERSION: u64 = 1;

const SURROUNDING_SPACE: &str =
    "begins or ends with whitespace, which is kept as part of the value: remove it if this is not intended";
const ROUNDED_NUMBER: &str =
    "looks like a long number that a spreadsheet has rounded: format the column as text and enter the number again";

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
    pub(super) version: u64,
    /// Identifies the hash key that made the digests in this file.
    pub(super) hash_key_check: String,
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
    pub(super) fn change(&self, hash_key: &HashKey, is_export: bool) -> Result<Change, Vec<Problem>> {
        let Some(row) = self.row() else {
            return Err(vec![Problem::new("export", "is allowed in the first row only")]);
        };
        let change = match row.given_digest() {
            Some(_) if !is_export => Err(vec![Problem::new(
                "digest",
                "requires the first row of the export (the \"export\" row), because that row identifies the hash key: add it back",
            )]),
            _ => row.change(hash_key),
        };
        change.map_err(|problems| problems.into_iter().map(|problem| problem.within(row.kind())).collect())
    }

    /// Warnings about valid values that may be a mistake. A warning never repeats a value, which may be a key.
    pub(super) fn warnings(&self) -> Vec<Problem> {
        let Some(row) = self.row() else { return Vec::new() };
        let mut warnings = Vec::new();
        row.see_texts(&mut |member, text| {
            let message = match text {
                Some(text) if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) => {
                    SURROUNDING_SPACE
                }
                Some(text) if is_rounded_number(text) => ROUNDED_NUMBER,
                _ => return,
            };
            warnings.push(Problem::new(member, message).within(row.kind()));
        });
        warnings
    }

    /// The row of the directory, unless it is the first row of an export.
    fn row(&self) -> Option<&dyn Row> {
        match self {
            Self::Export(_) => None,
            Self::Store(row) => Some(row),
            Self::Shopper(row) => Some(row),
            Self::IdentityKey(row) => Some(row),
            Self::RecognitionToken(row) => Some(row),
            Self::Customer(row) => Some(row),
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
