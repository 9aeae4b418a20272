//! The connector's names for the stores, keys and visitors of the published cases, read from the file in
//! `CONNECTOR_CASES`. The file maps the demo's names to the connector's.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::connector::Management;

/// Every name is optional: a case that needs a missing name is ignored.
#[derive(Default)]
pub(crate) struct Names {
    pub(crate) stores: Table,
    /// Identity keys, before Base64.
    pub(crate) keys: Table,
    pub(crate) visitors: Table,
    pub(crate) devices: Table,
    pub(crate) management: Option<Management>,
    recognition_token: Option<RecognitionToken>,
    customer_prefix: Option<String>,
    milliseconds: bool,
    scan_key_window_seconds: Option<i64>,
}

pub(crate) type Table = BTreeMap<String, String>;

pub(crate) struct RecognitionToken {
    pub(crate) token: String,
    pub(crate) visitor: String,
    pub(crate) device: Option<String>,
}

impl Names {
    /// The demo's names. The README also tells users to copy this file as an example.
    pub(crate) fn demo() -> Result<Self, String> {
        Self::parse("connector-cases.example.json", include_str!("connector-cases.example.json"))
    }

    pub(crate) fn read(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("CONNECTOR_CASES: {path}: {error}"))?;
        Self::parse(path, &text)
    }

    fn parse(path: &str, text: &str) -> Result<Self, String> {
        let members = match serde_json::from_str(text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err(format!("CONNECTOR_CASES: {path}: must be an object")),
            Err(error) => return Err(format!("CONNECTOR_CASES: {path}: {error}")),
        };
        let mut file = Members { left: members, path: String::new(), errors: Vec::new() };
        let names = Self {
            stores: file.table("stores"),
            keys: file.table("keys"),
            visitors: file.table("visitors"),
            devices: file.table("devices"),
            recognition_token: file.recognition_token(),
            customer_prefix: file.text("customerPrefix"),
            milliseconds: file.milliseconds(),
            scan_key_window_seconds: file.scan_key_window_seconds(),
            management: file.management(),
        };
        file.report_unknown();
        if file.errors.is_empty() {
            return Ok(names);
        }
        Err(format!("CONNECTOR_CASES: {path}:\n  {}", file.errors.join("\n  ")))
    }

    pub(crate) fn customer_prefix(&self) -> Result<&str, String> {
        self.customer_prefix.as_deref().ok_or_else(|| missing("customerPrefix"))
    }

    pub(crate) fn recognition_token(&self) -> Result<&RecognitionToken, String> {
        self.recognition_token.as_ref().ok_or_else(|| missing("recognitionToken"))
    }

    pub(crate) fn timestamp(&self, made: DateTime<Utc>) -> i64 {
        if self.milliseconds { made.timestamp_millis() } else { made.timestamp() }
    }

    pub(crate) fn scan_key_window(&self) -> TimeDelta {
        TimeDelta::seconds(self.scan_key_window_seconds.unwrap_or(60))
    }
}

/// The reason why a case is ignored.
pub(crate) fn missing(field: &str) -> String {
    format!("the case file names no {field}")
}

/// The file's members, removed one by one as they are read. Errors are collected and name the field, never the value:
/// keys and tokens are secrets.
struct Members {
    left: Map<String, Value>,
    path: String,
    errors: Vec<String>,
}

impl Members {
    fn text(&mut self, field: &str) -> Option<String> {
        match self.left.remove(field)? {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => self.error(field, "must be a non-empty string"),
        }
    }

    fn table(&mut self, field: &str) -> Table {
        let Some(mut inner) = self.object(field) else { return Table::new() };
        let names: Vec<String> = inner.left.keys().cloned().collect();
        let table = names.into_iter().filter_map(|name| inner.text(&name).map(|own| (name, own))).collect();
        self.errors.append(&mut inner.errors);
        table
    }

    fn object(&mut self, field: &str) -> Option<Self> {
        match self.left.remove(field)? {
            Value::Object(members) => Some(Self { left: members, path: format!("{field}."), errors: Vec::new() }),
            _ => self.error(field, "must be an object"),
        }
    }

    fn recognition_token(&mut self) -> Option<RecognitionToken> {
        let mut inner = self.object("recognitionToken")?;
        let (token, visitor, device) = (inner.text("token"), inner.text("visitor"), inner.text("device"));
        if token.as_ref().is_some_and(|token| token.len() != 32 || !token.bytes().all(|b| b.is_ascii_alphanumeric())) {
            let _: Option<()> = inner.error("token", "must be 32 letters and digits");
        }
        inner.report_unknown();
        self.errors.append(&mut inner.errors);
        match (token, visitor) {
            (Some(token), Some(visitor)) => Some(RecognitionToken { token, visitor, device }),
            _ => self.error("recognitionToken", "must have a token and its visitor"),
        }
    }

    fn milliseconds(&mut self) -> bool {
        match self.text("timestampUnit").as_deref() {
            None | Some("seconds") => false,
            Some("milliseconds") => true,
            Some(_) => self.error("timestampUnit", "must be seconds or milliseconds").unwrap_or_default(),
        }
    }

    fn scan_key_window_seconds(&mut self) -> Option<i64> {
        match self.left.remove("scanKeyWindowSeconds")?.as_i64() {
            Some(seconds @ 30..=90) => Some(seconds),
            _ => self.error("scanKeyWindowSeconds", "must be a whole number from 30 to 90"),
        }
    }

    fn management(&mut self) -> Option<Management> {
        let (url, token) = (self.text("managementUrl"), self.text("managementToken"));
        match url.as_deref().map(base_url) {
            Some(Ok(url)) => Some(Management { url, token }),
            Some(Err(expected)) => self.error("managementUrl", expected),
            None if token.is_some() => self.error("managementToken", "needs a managementUrl"),
            None => None,
        }
    }

    fn report_unknown(&mut self) {
        let unknown: Vec<String> = self.left.keys().cloned().collect();
        for field in unknown {
            let _: Option<()> = self.error(&field, "is not a field of this file");
        }
    }

    fn error<T>(&mut self, field: &str, expected: &str) -> Option<T> {
        self.errors.push(format!("`{}{field}` {expected}", self.path));
        None
    }
}

/// The URL without a trailing slash, or what is wrong with it.
pub(crate) fn base_url(url: &str) -> Result<String, &'static str> {
    match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err("must be an http or https URL"),
    }
}
