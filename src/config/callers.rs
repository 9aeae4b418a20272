//! `server.callers.*`: the callers of the gate's API.

use std::collections::{HashMap, HashSet};

use super::layers::CALLERS;
use super::reader::Reader;
use crate::callers::{Caller, KeyDigest, Stores};
use crate::domain::ids::StoreId;

/// The maximum number of keys of one caller: the old one and the new one.
const MAX_KEYS: usize = 2;
/// The value that means all stores.
const ALL: &str = "*";

/// The credentials of the callers that are already read, with the name of each caller, to find duplicates.
#[derive(Default)]
struct Seen {
    keys: HashMap<KeyDigest, String>,
    subjects: HashMap<String, String>,
}

pub(super) fn read(reader: &mut Reader) -> Vec<Caller> {
    let has_authority = !reader.text("tls.client_authority").is_empty();
    let mut seen = Seen::default();
    let names = reader.sections(CALLERS);
    names.into_iter().filter_map(|name| caller(reader, &name, has_authority, &mut seen)).collect()
}

fn caller(reader: &mut Reader, name: &str, has_authority: bool, seen: &mut Seen) -> Option<Caller> {
    if !reader.is_section_name(CALLERS, name) {
        return None;
    }
    let setting = |key: &str| format!("{CALLERS}{name}.{key}");
    let keys = keys(reader, &setting("api_key_sha256"), name, seen);
    let subject = reader.text(&setting("certificate_subject"));
    if !subject.is_empty() {
        if !has_authority {
            reader.refuse(
                &setting("certificate_subject"),
                "needs tls.client_authority, the CA that issues client certificates",
            );
        }
        if let Some(other) = seen.subjects.insert(subject.clone(), name.to_owned()) {
            reader.refuse(&setting("certificate_subject"), &format!("is already the subject of caller {other}"));
        }
    }
    if reader.text(&setting("api_key_sha256")).is_empty() && subject.is_empty() {
        let message = "must be set, or certificate_subject: a caller needs credentials";
        reader.refuse(&setting("api_key_sha256"), message);
    }
    let stores = stores(reader, &setting("stores"));
    let certificate_subject = (!subject.is_empty()).then_some(subject);
    Some(Caller { name: name.into(), keys, certificate_subject, stores })
}

fn keys(reader: &mut Reader, setting: &str, name: &str, seen: &mut Seen) -> Vec<KeyDigest> {
    let words = reader.list(setting);
    if words.len() > MAX_KEYS {
        reader.refuse(setting, "must be one digest, or two while the key is being changed");
    }
    let mut keys = Vec::new();
    if words.iter().any(|word| word.bytes().all(|byte| byte == b'0')) {
        reader.refuse(setting, "is a placeholder: replace it with the SHA-256 of the caller's API key");
    }
    for word in words {
        let Some(key) = KeyDigest::from_hex(&word) else {
            // The value may be the key itself, so it is not printed.
            let message =
                "must be 64 hexadecimal digits, such as `printf %s \"$KEY\" | sha256sum` prints, not the key itself";
            reader.refuse_secret(setting, message);
            continue;
        };
        if key == KeyDigest::from_key(b"") {
            reader.refuse_secret(setting, "is the SHA-256 of an empty key");
        }
        match seen.keys.insert(key, name.to_owned()) {
            Some(other) if other == name => reader.refuse_secret(setting, "contains the same key twice"),
            Some(other) => reader.refuse_secret(setting, &format!("contains a key that caller {other} already has")),
            None => keys.push(key),
        }
    }
    keys
}

fn stores(reader: &mut Reader, setting: &str) -> Stores {
    let words = reader.list(setting);
    if words.iter().any(|word| word == ALL) {
        if words.len() > 1 {
            reader.refuse(setting, "must be * alone, or a list of store ids");
        }
        return Stores::All;
    }
    if words.is_empty() {
        reader.refuse(setting, "must be a list of store ids, or * for all stores");
    }
    let mut stores = HashSet::new();
    for word in &words {
        match StoreId::parse(word) {
            Ok(store) => drop(stores.insert(store)),
            Err(error) => reader.refuse(setting, &format!("{word:?} {error}")),
        }
    }
    Stores::Only(stores)
}
