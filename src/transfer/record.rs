//! A row of a file, with the same members in every format.

use serde::{Deserialize, Deserializer, Serialize};

use super::position::Position;
use crate::digest::HashKey;
use crate::directory::file::describe;
use crate::directory::{
    Change, CustomerRow, IdentityKeyRow, Kind, Problem, RecognitionTokenRow, ShopperRow, StoreRow, customer,
    identity_key, recognition_token, shopper, store,
};

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
        let within = |kind: &'static str| move |problems: Vec<Problem>| all_within(problems, kind);
        let check_digest = |digest: &Option<String>| match digest {
            Some(_) if !is_export => Err(vec![Problem::new(
                "digest",
                "requires the first row of the export (the \"export\" row), because that row identifies the hash key: add it back",
            )]),
            _ => Ok(()),
        };
        match self {
            Self::Export(_) => Err(vec![Problem::new("export", "is allowed in the first row only")]),
            Self::Store(row) => store(row).map(Change::PutStore).map_err(within("store")),
            Self::Shopper(row) => shopper(row).map(Change::PutShopper).map_err(within("shopper")),
            Self::IdentityKey(row) => check_digest(&row.digest)
                .and_then(|()| identity_key(row, hash_key))
                .map(|(digest, link)| Change::PutRegistration(Kind::IdentityKey, digest, link))
                .map_err(within("identityKey")),
            Self::RecognitionToken(row) => check_digest(&row.digest)
                .and_then(|()| recognition_token(row, hash_key))
                .map(|(digest, link)| Change::PutRegistration(Kind::RecognitionToken, digest, link))
                .map_err(within("recognitionToken")),
            Self::Customer(row) => check_digest(&row.digest)
                .and_then(|()| customer(row, hash_key))
                .map(|(digest, shopper)| Change::LinkCustomer(digest, shopper))
                .map_err(within("customer")),
        }
    }
}

impl Record {
    /// Warnings about valid values that may be a mistake. A warning never repeats a value, which may be a key.
    pub(super) fn warnings(&self) -> Vec<Problem> {
        let kind = self.kind();
        let mut warnings = Vec::new();
        let mut warn = |member: &str, text: Option<&str>| {
            let message = match text {
                Some(text) if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) => {
                    SURROUNDING_SPACE
                }
                Some(text) if is_rounded_number(text) => ROUNDED_NUMBER,
                _ => return,
            };
            warnings.push(Problem::new(member, message).within(kind));
        };
        match self {
            Self::Export(_) => {}
            Self::Store(row) => warn("id", Some(&row.id)),
            Self::Shopper(row) => {
                warn("id", Some(&row.id));
                warn("paymentMethod.id", row.payment_method.as_ref().and_then(|method| method.id.as_deref()));
                row.devices.iter().enumerate().for_each(|(number, id)| warn(&format!("devices[{number}]"), Some(id)));
            }
            Self::IdentityKey(row) => {
                warn("key", row.key.as_deref());
                warn("shopper", row.shopper.as_deref());
                warn("device", row.device.as_deref());
            }
            Self::RecognitionToken(row) => {
                warn("shopper", row.shopper.as_deref());
                warn("device", row.device.as_deref());
            }
            Self::Customer(row) => {
                warn("issuer", row.issuer.as_deref());
                warn("subject", row.subject.as_deref());
                warn("shopper", row.shopper.as_deref());
            }
        }
        warnings
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Export(_) => "export",
            Self::Store(_) => "store",
            Self::Shopper(_) => "shopper",
            Self::IdentityKey(_) => "identityKey",
            Self::RecognitionToken(_) => "recognitionToken",
            Self::Customer(_) => "customer",
        }
    }
}

/// Whether this is a long number that a spreadsheet has rounded, such as 4.71E+12.
fn is_rounded_number(text: &str) -> bool {
    let Some((number, exponent)) = text.split_once("E+") else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits(exponent) && number.split(['.', ',']).all(digits)
}

fn all_within(problems: Vec<Problem>, kind: &str) -> Vec<Problem> {
    problems.into_iter().map(|problem| problem.within(kind)).collect()
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
