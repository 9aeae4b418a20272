//! The directory file: JSON that a retailer writes, checked whole before anything of it is used.
//!
//! Keys and tokens stand in the file as they are presented, so the file is a secret; messages about it name places and
//! fields, never a key or a token.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

use super::check::Check;
use super::{Fault, MemoryDirectory};
use crate::digest::{Digest, HashKey};
use crate::domain::scan::KeyChannel;
use crate::domain::store::{ExitPolicy, GateDefault};
use crate::domain::visitor::{Account, VisitorType};

/// The file as it is written. Member names are camelCase; unknown ones are refused, since they are misspelt ones.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct DirectoryFile {
    pub(super) stores: Vec<StoreRow>,
    #[serde(default)]
    pub(super) shoppers: Vec<ShopperRow>,
    #[serde(default)]
    pub(super) identity_keys: Vec<IdentityKeyRow>,
    #[serde(default)]
    pub(super) recognition_tokens: Vec<RecognitionTokenRow>,
    /// Keys for which the directory fails: the demo's alone.
    #[serde(default)]
    pub(super) faults: Vec<FaultRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct StoreRow {
    pub(super) id: String,
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    #[serde(default)]
    pub(super) takes_cash: bool,
    #[serde(default, with = "GateDefaultWord")]
    pub(super) default_gate_decision: GateDefault,
    pub(super) scan_key_window_seconds: Option<u64>,
    #[serde(default, with = "ExitPolicyWord")]
    pub(super) exit_policy: ExitPolicy,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ShopperRow {
    pub(super) id: String,
    #[serde(rename = "type", with = "VisitorTypeWord")]
    pub(super) kind: VisitorType,
    #[serde(default, with = "AccountWord")]
    pub(super) account: Account,
    pub(super) payment_method: Option<PaymentMethodRow>,
    #[serde(default)]
    pub(super) devices: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PaymentMethodRow {
    pub(super) id: Option<String>,
    pub(super) last_month: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct IdentityKeyRow {
    pub(super) key: String,
    pub(super) shopper: Option<String>,
    #[serde(default, deserialize_with = "channel")]
    pub(super) channel: Option<KeyChannel>,
    #[serde(default)]
    pub(super) revoked: bool,
    pub(super) device: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RecognitionTokenRow {
    pub(super) token: String,
    pub(super) shopper: Option<String>,
    #[serde(default)]
    pub(super) revoked: bool,
    pub(super) device: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FaultRow {
    pub(super) key: String,
    #[serde(with = "FaultWord")]
    pub(super) fault: Fault,
}

// How the words of the domain are spelt in the file.

#[derive(Deserialize)]
#[serde(remote = "GateDefault", rename_all = "snake_case")]
enum GateDefaultWord {
    Open,
    Closed,
}

#[derive(Deserialize)]
#[serde(remote = "ExitPolicy", rename_all = "snake_case")]
enum ExitPolicyWord {
    LetOut,
    CheckAccount,
}

#[derive(Deserialize)]
#[serde(remote = "VisitorType", rename_all = "SCREAMING_SNAKE_CASE")]
enum VisitorTypeWord {
    Shopper,
    Associate,
    CashShopper,
}

#[derive(Deserialize)]
#[serde(remote = "Account", rename_all = "snake_case")]
enum AccountWord {
    Active,
    Flagged,
}

#[derive(Deserialize)]
#[serde(remote = "KeyChannel", rename_all = "SCREAMING_SNAKE_CASE")]
enum ChannelWord {
    Optical,
    Radio,
}

#[derive(Deserialize)]
#[serde(remote = "Fault", rename_all = "snake_case")]
enum FaultWord {
    Fail,
    Stall,
    Panic,
}

/// An absent or null channel is any channel.
fn channel<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<KeyChannel>, D::Error> {
    #[derive(Deserialize)]
    struct Word(#[serde(with = "ChannelWord")] KeyChannel);
    Ok(Option::<Word>::deserialize(deserializer)?.map(|Word(channel)| channel))
}

/// What a file holds, once it is found to be sound.
#[derive(Debug)]
pub struct Loaded {
    /// Who is known.
    pub directory: Arc<MemoryDirectory>,
    /// The keys that fail when they are presented. Empty except in a demo.
    pub faults: HashMap<Digest, Fault>,
}

/// Why a file cannot be used: every place that is wrong, as far as it could be read.
#[derive(Debug, Error)]
pub struct DirectoryFileError {
    source_name: String,
    problems: Vec<Problem>,
}

/// One thing wrong with a file.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where, such as `identityKeys[3].shopper`.
    pub(super) place: String,
    /// What is wrong and what would be right.
    pub(super) what: String,
}

impl fmt::Display for DirectoryFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = 20;
        write!(f, "directory file {} cannot be used:", self.source_name)?;
        for Problem { place, what } in self.problems.iter().take(shown) {
            write!(f, "\n  {place}: {what}")?;
        }
        match self.problems.len().saturating_sub(shown) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

/// Reads and checks the text of a directory file; `source_name` is what messages call it.
///
/// # Errors
/// With the place and the field of what is wrong.
pub fn parse(
    text: &str,
    source_name: &str,
    hash_key: &HashKey,
    may_have_faults: bool,
) -> Result<Loaded, DirectoryFileError> {
    let refuse = |problems| DirectoryFileError { source_name: source_name.to_owned(), problems };
    let mut json = serde_json::Deserializer::from_str(text);
    let file: DirectoryFile = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let what = describe(error.inner());
        let path = error.path().to_string();
        // The path ends in the name of a field that is not known. Where keys stand, that may be a key.
        let place = match path.rsplit_once('.') {
            _ if path == "." || path == "?" => "the file".to_owned(),
            Some((row, _)) if what.starts_with("unknown field") && !path.starts_with("stores") => row.to_owned(),
            _ => path,
        };
        refuse(vec![Problem { place, what }])
    })?;
    json.end()
        .map_err(|error| refuse(vec![Problem { place: "end of the file".to_owned(), what: describe(&error) }]))?;
    Check::new(hash_key).run(file, may_have_faults).map_err(refuse)
}

/// serde_json's message without the value or name that it quotes: that might be a key.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(['`', '"']) {
        Some((kind, rest)) if kind.starts_with("invalid ") || kind.starts_with("unknown ") => {
            let expected = rest.rsplit_once(", expected ").map_or("something else", |(_, expected)| expected);
            format!("{}, expected {expected}", kind.trim_end())
        }
        _ => text,
    }
}
