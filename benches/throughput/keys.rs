//! Many who are known: static keys, numbered from `badge-000000` on, so that the load can pick any of them.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::server::STORE;

/// As many as have six digits.
pub(crate) const MOST: u64 = 1_000_000;
/// How many shoppers there are at most: of more badges, some have several.
const SHOPPERS: u64 = 100_000;

pub(crate) fn key(badge: u64) -> String {
    assert!(badge < MOST, "six digits");
    format!("badge-{badge:06}")
}

/// As it is sent.
pub(crate) fn encoded(badge: u64) -> String {
    BASE64_STANDARD.encode(key(badge))
}

/// Whose it is, of so many: 36 characters, as a UUID has.
pub(crate) fn shopper(badge: u64, badges: u64) -> String {
    format!("shopper-{:028}", badge % badges.min(SHOPPERS))
}

/// Everybody as the directory file has them.
pub(crate) fn directory_file(folder: &Path, badges: u64) -> PathBuf {
    let shoppers: Vec<Value> = shoppers(badges).collect();
    let keys: Vec<Value> = keys(badges).collect();
    let directory = json!({ "stores": [{ "id": STORE }], "shoppers": shoppers, "identityKeys": keys });
    let file = folder.join("directory.json");
    serde_json::to_writer(BufWriter::new(File::create(&file).unwrap()), &directory).unwrap();
    file
}

/// The same as an import has them.
pub(crate) fn import_file(folder: &Path, badges: u64) -> PathBuf {
    let file = folder.join("directory.jsonl");
    let mut lines = BufWriter::new(File::create(&file).unwrap());
    writeln!(lines, "{}", json!({ "store": { "id": STORE } })).unwrap();
    shoppers(badges).for_each(|shopper| writeln!(lines, "{}", json!({ "shopper": shopper })).unwrap());
    keys(badges).for_each(|key| writeln!(lines, "{}", json!({ "identityKey": key })).unwrap());
    lines.flush().unwrap();
    file
}

fn shoppers(badges: u64) -> impl Iterator<Item = Value> {
    (0..badges.min(SHOPPERS)).map(move |number| json!({ "id": shopper(number, badges), "type": "SHOPPER" }))
}

fn keys(badges: u64) -> impl Iterator<Item = Value> {
    (0..badges).map(move |badge| json!({ "key": key(badge), "shopper": shopper(badge, badges) }))
}
