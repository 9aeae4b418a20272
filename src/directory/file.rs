//! The directory file: JSON that a retailer writes. It is checked completely before any of it is used.
//!
//! The file contains keys and tokens in clear, so it is a secret. Messages about it have paths and field names, never a
//! key, a token or a customer.
//!
//! The whole file is read into memory, where it takes about ten times its size: hence the limit of 8 MiB. `import`
//! reads files of any size.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::Fault;
use super::change::Change;
use super::model::{
    CustomerRow, IdentityKeyRow, Kind, Problem, Profile, RecognitionTokenRow, Row, ShopperRow, StoreRow,
};
use crate::digest::{Digest, HashKey};
use crate::domain::ids::{DeviceId, StoreId, VisitorId};
use crate::domain::store::GateDefault;

/// The maximum length of a file, in bytes.
const MAX_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DirectoryFile {
    stores: Vec<StoreRow>,
    #[serde(default)]
    shoppers: Vec<ShopperRow>,
    #[serde(default)]
    identity_keys: Vec<IdentityKeyRow>,
    #[serde(default)]
    recognition_tokens: Vec<RecognitionTokenRow>,
    #[serde(default)]
    customers: Vec<CustomerRow>,
    /// Keys with a fault; only in the demo's file.
    #[serde(default)]
    faults: Vec<FaultRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FaultRow {
    key: String,
    fault: Fault,
}

/// The content of a valid file.
#[derive(Debug)]
pub struct Loaded {
    /// Its rows, to be applied in this order.
    pub changes: Vec<Change>,
    /// The keys with a fault. Empty except in a demo.
    pub faults: HashMap<Digest, Fault>,
    pub content: Content,
}

/// The number of rows in a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pub stores: usize,
    /// Stores whose default gate decision is open.
    pub open_by_default: usize,
    pub shoppers: usize,
    pub identity_keys: usize,
    pub recognition_tokens: usize,
    /// Customers that are linked to a shopper.
    pub customers: usize,
}

/// The problems of a file that cannot be used, as far as it could be read.
#[derive(Debug, Error)]
pub struct DirectoryFileError {
    source_name: String,
    problems: Vec<Problem>,
}

impl fmt::Display for DirectoryFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = 20;
        write!(f, "directory file {} cannot be used:", self.source_name)?;
        for problem in self.problems.iter().take(shown) {
            write!(f, "\n  {problem}")?;
        }
        match self.problems.len().saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Reads and checks a directory file.
///
/// # Errors
/// The outer error when the file cannot be read, the inner one when its content is invalid.
pub(crate) fn load(
    path: &Path,
    hash_key: &HashKey,
    may_have_faults: bool,
) -> io::Result<Result<Loaded, DirectoryFileError>> {
    let source_name = path.display().to_string();
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES.saturating_add(1)).read_to_end(&mut bytes)?;
    let invalid = |message: &str| DirectoryFileError {
        source_name: source_name.clone(),
        problems: vec![Problem::new("the file", message)],
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Ok(Err(invalid(
            "is longer than 8 MiB, the limit for a file that is read at each start: leave directory.file empty and import the \
             file once with `identity-connector import`",
        )));
    }
    let Ok(text) = String::from_utf8(bytes) else { return Ok(Err(invalid("is not UTF-8: save it as UTF-8"))) };
    Ok(parse(&text, &source_name, hash_key, may_have_faults))
}

/// Reads and checks the text of a directory file, which may begin with a byte order mark. Messages call the file
/// `source_name`.
///
/// # Errors
/// With the path of every invalid member.
pub fn parse(
    text: &str,
    source_name: &str,
    hash_key: &HashKey,
    may_have_faults: bool,
) -> Result<Loaded, DirectoryFileError> {
    let invalid = |problems| DirectoryFileError { source_name: source_name.to_owned(), problems };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: DirectoryFile = read(text).map_err(|problem| invalid(vec![problem]))?;
    FileCheck::default().check(&file, hash_key, may_have_faults).map_err(invalid)
}

/// Reads JSON. An error has the path and the expected value, not the value in the file, which may be a key.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let message = describe(error.inner());
        let path = error.path().to_string();
        // The path ends in the name of an unknown field, which may be a key if keys are written at this level.
        let shown_path = match path.rsplit_once('.') {
            _ if path == "." || path == "?" => "the file".to_owned(),
            Some((row, _)) if message.starts_with("unknown field") && !path.starts_with("stores") => row.to_owned(),
            _ => path,
        };
        Problem::new(shown_path, message)
    })?;
    json.end().map_err(|error| Problem::new("end of the file", describe(&error)))?;
    Ok(value)
}

/// serde_json's message without the value or name that it quotes, which may be a key.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(['`', '"']) {
        Some((kind, rest)) if kind.starts_with("invalid ") || kind.starts_with("unknown ") => {
            let expected = rest.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
            format!("{}, expected {expected}", kind.trim_end())
        }
        _ => text,
    }
}

/// The state of a check: the rows found valid so far, and the problems. Every shopper that a row names must be in the
/// file.
#[derive(Default)]
struct FileCheck {
    stores: HashSet<StoreId>,
    shoppers: HashMap<VisitorId, HashSet<DeviceId>>,
    registrations: HashSet<(Kind, Digest)>,
    customers: HashSet<Digest>,
    changes: Vec<Change>,
    content: Content,
    problems: Vec<Problem>,
}

impl FileCheck {
    fn check(
        mut self,
        file: &DirectoryFile,
        hash_key: &HashKey,
        may_have_faults: bool,
    ) -> Result<Loaded, Vec<Problem>> {
        self.add_all("stores", &file.stores, hash_key);
        self.add_all("shoppers", &file.shoppers, hash_key);
        self.add_all("identityKeys", &file.identity_keys, hash_key);
        self.add_all("recognitionTokens", &file.recognition_tokens, hash_key);
        self.add_all("customers", &file.customers, hash_key);
        if file.stores.is_empty() && self.problems.is_empty() {
            self.problems.push(Problem::new("stores", "is empty: without a store every scan is refused"));
        }
        if !may_have_faults && !file.faults.is_empty() {
            self.problems.push(Problem::new("faults", "allowed only in the demo"));
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let content = Content {
            stores: file.stores.len(),
            shoppers: file.shoppers.len(),
            identity_keys: file.identity_keys.len(),
            recognition_tokens: file.recognition_tokens.len(),
            customers: file.customers.len(),
            ..self.content
        };
        let faults = file.faults.iter().map(|row| (hash_key.identity_key(&row.key), row.fault)).collect();
        Ok(Loaded { changes: self.changes, faults, content })
    }

    fn add_all(&mut self, list: &str, rows: &[impl Row], hash_key: &HashKey) {
        for (number, row) in rows.iter().enumerate() {
            let path = format!("{list}[{number}]");
            match row.change(hash_key) {
                Ok(change) => self.add(&path, change),
                Err(problems) => self.problems.extend(problems.into_iter().map(|problem| problem.within(&path))),
            }
        }
    }

    /// Adds the change of a valid row, unless the row names a shopper or a device that is not in the file.
    fn add(&mut self, path: &str, change: Change) {
        let duplicate = "duplicate, already defined above";
        let (field, message, is_new) = match &change {
            Change::PutStore(store) => {
                let open = usize::from(store.default_gate_decision == GateDefault::Open);
                self.content.open_by_default = self.content.open_by_default.saturating_add(open);
                ("id", "duplicate store id, already defined above", self.stores.insert(store.id.clone()))
            }
            Change::PutShopper(Profile { shopper, devices }) => {
                let devices = devices.iter().cloned().collect();
                let is_new = self.shoppers.insert(shopper.visitor.id.clone(), devices).is_none();
                ("id", "duplicate shopper id, already defined above", is_new)
            }
            Change::PutRegistration(kind, digest, link) => {
                let shopper = link.shopper.as_ref();
                if shopper.is_some_and(|shopper| !self.is_known(path, shopper, link.device.as_ref())) {
                    return;
                }
                let field = match kind {
                    Kind::IdentityKey => "key",
                    Kind::RecognitionToken => "token",
                };
                (field, duplicate, self.registrations.insert((*kind, *digest)))
            }
            Change::LinkCustomer(digest, shopper) => {
                if !self.is_known(path, shopper, None) {
                    return;
                }
                ("subject", duplicate, self.customers.insert(*digest))
            }
            _ => return, // no row has another change
        };
        if !is_new {
            self.problem(path, field, message);
        }
        self.changes.push(change);
    }

    /// Whether this shopper exists and has that device. Otherwise adds a problem.
    fn is_known(&mut self, path: &str, shopper: &VisitorId, device: Option<&DeviceId>) -> bool {
        match self.shoppers.get(shopper) {
            None => self.problem(path, "shopper", "no such shopper in this file"),
            Some(devices) if device.is_some_and(|device| !devices.contains(device)) => {
                self.problem(path, "device", "not one of that shopper's devices");
            }
            Some(_) => return true,
        }
        false
    }

    fn problem(&mut self, path: &str, field: &str, message: &str) {
        self.problems.push(Problem::new(format!("{path}.{field}"), message));
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
