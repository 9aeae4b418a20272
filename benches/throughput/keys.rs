//! Shoppers and their keys. Keys differ in six digits only, so that the load can compute any of them.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::server::STORE;

/// The maximum number of keys: they have six digits.
pub(crate) const MAX: u64 = 1_000_000;
/// The maximum number of shoppers. With more keys, shoppers have several.
const SHOPPERS: u64 = 100_000;

/// The form of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A Scan Key Code, made at the time of all scans.
    Code,
    /// A static key: `badge-000000` and so on.
    Badge,
}

/// Keys of one form, numbered from 0 on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    pub(crate) form: Form,
    pub(crate) number: u64,
}

impl Keys {
    pub(crate) const fn codes(number: u64) -> Self {
        Self { form: Form::Code, number }
    }

    pub(crate) const fn badges(number: u64) -> Self {
        Self { form: Form::Badge, number }
    }

    /// The text before and after the digits. The length of the text before them is a multiple of three, so that the
    /// digits have their own characters in Base64.
    fn prefix_and_suffix(self) -> (&'static str, &'static str) {
        match self.form {
            Form::Code => ("JWOACME00000000000000000000000000", "1795867200"),
            Form::Badge => ("badge-", ""),
        }
    }

    pub(crate) fn key(self, number: u64) -> String {
        assert!(number < MAX, "six digits");
        let (prefix, suffix) = self.prefix_and_suffix();
        format!("{prefix}{number:06}{suffix}")
    }

    /// The key in Base64, as it is sent.
    pub(crate) fn encoded(self, number: u64) -> String {
        BASE64_STANDARD.encode(self.key(number))
    }

    /// The arguments of `scan.lua`: the text before and after the digits in Base64, and the number of keys.
    pub(crate) fn arguments(self) -> [String; 3] {
        let (prefix, suffix) = self.prefix_and_suffix();
        [BASE64_STANDARD.encode(prefix), BASE64_STANDARD.encode(suffix), self.number.to_string()]
    }

    /// The shopper of a key. The id has 36 characters, like a UUID.
    pub(crate) fn shopper(self, number: u64) -> String {
        format!("shopper-{:028}", number % self.shoppers())
    }

    /// Writes shoppers and keys as a directory file.
    pub(crate) fn directory_file(self, folder: &Path) -> PathBuf {
        let (shoppers, registered): (Vec<_>, Vec<_>) = (self.profiles().collect(), self.registered().collect());
        let registered_as = match self.form {
            Form::Code => "recognitionTokens",
            Form::Badge => "identityKeys",
        };
        let directory = json!({ "stores": [{ "id": STORE }], "shoppers": shoppers, registered_as: registered });
        let file = folder.join("directory.json");
        serde_json::to_writer(BufWriter::new(File::create(&file).unwrap()), &directory).unwrap();
        file
    }

    /// Writes shoppers and keys as a file for `import`.
    pub(crate) fn import_file(self, folder: &Path) -> PathBuf {
        assert_eq!(self.form, Form::Badge, "only badges are imported");
        let file = folder.join("directory.jsonl");
        let mut lines = BufWriter::new(File::create(&file).unwrap());
        writeln!(lines, "{}", json!({ "store": { "id": STORE } })).unwrap();
        self.profiles().for_each(|shopper| writeln!(lines, "{}", json!({ "shopper": shopper })).unwrap());
        self.registered().for_each(|row| writeln!(lines, "{}", json!({ "identityKey": row })).unwrap());
        lines.flush().unwrap();
        file
    }

    fn shoppers(self) -> u64 {
        self.number.min(SHOPPERS)
    }

    fn profiles(self) -> impl Iterator<Item = Value> {
        (0..self.shoppers()).map(move |number| json!({ "id": self.shopper(number), "type": "SHOPPER" }))
    }

    fn registered(self) -> impl Iterator<Item = Value> {
        (0..self.number).map(move |number| match self.form {
            Form::Code => json!({ "token": format!("{number:032}"), "shopper": self.shopper(number) }),
            Form::Badge => json!({ "key": self.key(number), "shopper": self.shopper(number) }),
        })
    }
}
