//! Translates a case for a connector: replaces the demo's stores, keys and visitors by the connector's, writes Scan Key
//! Codes, and makes new auth event ids for a connector that may have recorded the published ones.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::answer::Answer;
use crate::case::{Case, Step};
use crate::names::{Names, Table, missing};
use crate::scan_key_code::ScanKeyCode;

/// The auth event ids that a case gets.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum EventIds {
    /// The ids in the case's file; these are the document's where it gives any.
    Published,
    /// New ids, one for each published id, so that a retry stays a retry.
    Fresh,
}

/// The case with the names of `names`, or an error that tells which name is missing.
pub(crate) fn translate(case: &Case, names: &Names, demo: &Names, event_ids: EventIds) -> Result<Case, String> {
    let mut translation = Translation { names, demo, event_ids, ids: HashMap::new() };
    let mut case = case.clone();
    for step in &mut case.steps {
        match step {
            Step::Request(step) => {
                let identified = translation.request(&mut step.request)?;
                translation.answer(&mut step.answer, identified)?;
            }
            Step::Scan(step) => {
                let identified = translation.request(&mut step.scan)?;
                for answer in step.report.answers_mut() {
                    translation.answer(answer, identified)?;
                }
            }
        }
    }
    if let Some(sessions) = &mut case.sessions {
        if names.management.is_none() {
            return Err(missing("managementUrl with its token, which the case needs to count sessions"));
        }
        translation.event_id(&mut sessions.auth_event_id);
    }
    Ok(case)
}

/// How a request identifies the visitor in its answer.
#[derive(Clone, Copy, PartialEq)]
enum IdentifiedBy {
    Key,
    ScanKeyCode,
}

/// A placeholder in a request for a long text.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filled {
    length: usize,
    filled_with: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Made {
    scan_key_code: ScanKeyCode,
}

struct Translation<'a> {
    names: &'a Names,
    demo: &'a Names,
    event_ids: EventIds,
    ids: HashMap<Uuid, Uuid>,
}

impl Translation<'_> {
    fn request(&mut self, request: &mut Value) -> Result<IdentifiedBy, String> {
        let scanned = request.pointer("/authEvent/timestamp").cloned();
        if let Some(Value::String(id)) = request.pointer_mut("/authEvent/id") {
            self.event_id(id);
        }
        if let Some(store) = request.get_mut("storeId") {
            fill(store)?;
            replace("stores", store, &self.demo.stores, &self.names.stores)?;
        }
        let Some(key) = request.get_mut("identityKey") else { return Ok(IdentifiedBy::Key) };
        if key.get("scanKeyCode").is_some() {
            let made: Made = serde_json::from_value(key.take()).map_err(|error| error.to_string())?;
            let scanned: DateTime<Utc> = serde_json::from_value(scanned.unwrap_or_default())
                .map_err(|error| format!("authEvent.timestamp: {error}"))?;
            *key = encode(&made.scan_key_code.write(self.names, scanned)?);
            return Ok(IdentifiedBy::ScanKeyCode);
        }
        fill(key)?;
        if let Some(mut decoded) = decode(key) {
            replace("keys", &mut decoded, &self.demo.keys, &self.names.keys)?;
            *key = encode(decoded.as_str().unwrap_or_default());
        }
        Ok(IdentifiedBy::Key)
    }

    /// The answer to a Scan Key Code has the visitor of its recognition token.
    fn answer(&self, answer: &mut Answer, identified: IdentifiedBy) -> Result<(), String> {
        if let Some(visitor) = answer.body.pointer_mut("/visitorDetails/id") {
            if identified == IdentifiedBy::ScanKeyCode {
                let token = self.names.recognition_token()?;
                *visitor = token.visitor.clone().into();
                if let (Some(device), Some(body)) = (&token.device, answer.body.as_object_mut()) {
                    body.insert("shopperDeviceId".to_owned(), device.clone().into());
                }
                return Ok(());
            }
            replace("visitors", visitor, &self.demo.visitors, &self.names.visitors)?;
        }
        if let Some(device) = answer.body.get_mut("shopperDeviceId") {
            replace("devices", device, &self.demo.devices, &self.names.devices)?;
        }
        Ok(())
    }

    /// An id that is not a UUID is kept, since the case expects it to be refused.
    fn event_id(&mut self, id: &mut String) {
        if let (EventIds::Fresh, Ok(published)) = (self.event_ids, id.parse()) {
            *id = self.ids.entry(published).or_insert_with(Uuid::new_v4).to_string();
        }
    }
}

/// A name that the demo does not have, such as that of an unknown store, is kept.
fn replace(field: &str, name: &mut Value, demo: &Table, own: &Table) -> Result<(), String> {
    let Some(text) = name.as_str().filter(|text| demo.contains_key(*text)) else { return Ok(()) };
    let own = own.get(text).ok_or_else(|| missing(&format!("{field}.{text}")))?;
    *name = own.clone().into();
    Ok(())
}

fn fill(value: &mut Value) -> Result<(), String> {
    if value.is_object() {
        let filled: Filled = serde_json::from_value(value.take()).map_err(|error| error.to_string())?;
        *value = filled.filled_with.repeat(filled.length).into();
    }
    Ok(())
}

fn encode(key: &str) -> Value {
    BASE64_STANDARD.encode(key).into()
}

fn decode(key: &Value) -> Option<Value> {
    let bytes = BASE64_STANDARD.decode(key.as_str()?).ok()?;
    Some(String::from_utf8(bytes).ok()?.into())
}
