//! What a connector calls the stores, keys and visitors that the published cases are about: the file that
//! `CONNECTOR_CASES` names. On the left stand the demo's names, on the right the connector's own.

use std::collections::BTreeMap;
use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};

use crate::connector::Management;

/// Every name is optional: a case that needs a missing one is ignored.
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
    /// The demo's own names. This file is the example that the README tells people to copy, too.
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
        let mut file = Members { left: members, within: String::new(), mistakes: Vec::new() };
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
        if file.mistakes.is_empty() {
            return Ok(names);
        }
        Err(format!("CONNECTOR_CASES: {path}:\n  {}", file.mistakes.join("\n  ")))
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

/// The reason for ignoring a case.
pub(crate) fn missing(field: &str) -> String {
    format!("the case file names no {field}")
}

/// The file's members, taken out one by one. Mistakes are collected and name the field, never its value: keys and
/// tokens are secrets.
struct Members {
    left: Map<String, Value>,
    within: String,
    mistakes: Vec<String>,
}

impl Members {
    fn text(&mut self, field: &str) -> Option<String> {
        match self.left.remove(field)? {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => self.mistake(field, "must be a text that is not empty"),
        }
    }

    fn table(&mut self, field: &str) -> Table {
        let Some(mut inner) = self.object(field) else { return Table::new() };
        let names: Vec<String> = inner.left.keys().cloned().collect();
        let table = names.into_iter().filter_map(|name| inner.text(&name).map(|own| (name, own))).collect();
        self.mistakes.append(&mut inner.mistakes);
        table
    }

    fn object(&mut self, field: &str) -> Option<Self> {
        match self.left.remove(field)? {
            Value::Object(members) => Some(Self { left: members, within: format!("{field}."), mistakes: Vec::new() }),
            _ => self.mistake(field, "must be an object"),
        }
    }

    fn recognition_token(&mut self) -> Option<RecognitionToken> {
        let mut inner = self.object("recognitionToken")?;
        let (token, visitor, device) = (inner.text("token"), inner.text("visitor"), inner.text("device"));
        if token.as_ref().is_some_and(|token| token.len() != 32 || !token.bytes().all(|b| b.is_ascii_alphanumeric())) {
            let _: Option<()> = inner.mistake("token", "must be 32 letters and digits");
        }
        inner.report_unknown();
        self.mistakes.append(&mut inner.mistakes);
        match (token, visitor) {
            (Some(token), Some(visitor)) => Some(RecognitionToken { token, visitor, device }),
            _ => self.mistake("recognitionToken", "must have both, a token and its visitor"),
        }
    }

    fn milliseconds(&mut self) -> bool {
        match self.text("timestampUnit").as_deref() {
            None | Some("seconds") => false,
            Some("milliseconds") => true,
            Some(_) => self.mistake("timestampUnit", "must be seconds or milliseconds").unwrap_or_default(),
        }
    }

    fn scan_key_window_seconds(&mut self) -> Option<i64> {
        match self.left.remove("scanKeyWindowSeconds")?.as_i64() {
            Some(seconds @ 30..=90) => Some(seconds),
            _ => self.mistake("scanKeyWindowSeconds", "must be a whole number from 30 to 90"),
        }
    }

    fn management(&mut self) -> Option<Management> {
        let (url, token) = (self.text("managementUrl"), self.text("managementToken"));
        match url.as_deref().map(base_url) {
            Some(Ok(url)) => Some(Management { url, token }),
            Some(Err(expected)) => self.mistake("managementUrl", expected),
            None if token.is_some() => self.mistake("managementToken", "needs a managementUrl to be used at"),
            None => None,
        }
    }

    fn report_unknown(&mut self) {
        let unknown: Vec<String> = self.left.keys().cloned().collect();
        for field in unknown {
            let _: Option<()> = self.mistake(&field, "is not a field of this file");
        }
    }

    fn mistake<T>(&mut self, field: &str, expected: &str) -> Option<T> {
        self.mistakes.push(format!("`{}{field}` {expected}", self.within));
        None
    }
}

/// A URL to put paths behind, or what is wrong with it.
pub(crate) fn base_url(url: &str) -> Result<String, &'static str> {
    match reqwest::Url::parse(url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err("must be an http or https URL"),
    }
}
