//! The question and its answer, as `docs/identity-backend.md` has them.
//!
//! An answer is read as strictly as a directory file, by the same rules and under the same names. What is wrong with one is told without
//! anything that stands in it: it may repeat the key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Question;
use crate::directory::check::{self, Problem};
use crate::directory::rows::{ShopperRow, channel};
use crate::directory::{Kind, Registration};
use crate::domain::scan::KeyChannel;
use crate::domain::visitor::Holder;

/// The longest answer that is read, in bytes.
pub(super) const LONGEST: usize = 16 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    kind: &'static str,
    value: &'a str,
    channel: Option<&'static str>,
    store_id: &'a str,
}

/// The question as it is sent.
pub(super) fn write(question: &Question<'_>) -> Vec<u8> {
    let asked = Asked {
        kind: question.kind.as_str(),
        value: question.value,
        channel: question.asker.channel.map(KeyChannel::as_str),
        store_id: question.asker.store.as_str(),
    };
    serde_json::to_vec(&asked).unwrap_or_default() // texts alone: it does not fail
}

/// What a 200 says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Found {
    shopper: Option<ShopperRow>,
    device: Option<String>,
    #[serde(default, with = "channel")]
    channel: Option<KeyChannel>,
    #[serde(default)]
    revoked: bool,
}

/// Why a 200 says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    TooLong,
    NotJson,
    /// This member is not as documented, or something next to it.
    Member(String),
    Wrong(Problem),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "is longer than {} KiB", LONGEST.div_euclid(1024)),
            Self::NotJson => f.write_str("is not one JSON object"),
            Self::Member(place) => write!(f, "{place}: is not as documented, or has a member that is not"),
            Self::Wrong(problem) => write!(f, "{problem}"),
        }
    }
}

/// Reads the body of a 200.
pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Registration, Unreadable> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable::NotJson); // serde takes a list for an object, member by member
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let found: Found = serde_path_to_error::deserialize(&mut json).map_err(|error| refuse(&error))?;
    json.end().map_err(|_| Unreadable::NotJson)?;
    let first = |problems: Vec<Problem>| problems.into_iter().next().map_or(Unreadable::NotJson, Unreadable::Wrong);
    let wrong = |place: &str, what: &str| Unreadable::Wrong(Problem::new(place, what));
    if kind == Kind::RecognitionToken && found.channel.is_some() {
        return Err(wrong("channel", "a recognition token is for any"));
    }
    let device = found.device.as_deref().map(check::device).transpose().map_err(first)?;
    let profile = found.shopper.as_ref().map(check::shopper).transpose();
    let profile = profile.map_err(|problems| first(problems.into_iter().map(|one| one.within("shopper")).collect()))?;
    match profile {
        Some(profile) if !profile.devices.is_empty() => {
            Err(wrong("shopper.devices", "has no place here: device is the one that the key stands for"))
        }
        _ if found.revoked => Ok(Registration::Revoked),
        Some(profile) => {
            let holder = Holder { shopper: Arc::new(profile.shopper), device };
            Ok(Registration::Active { holder, channel: found.channel })
        }
        None => Err(wrong("shopper", "is missing: only a revoked key or token may have no shopper")),
    }
}

/// The members that there are: no other name is repeated.
const MEMBERS: [&str; 11] =
    ["shopper", "id", "type", "account", "paymentMethod", "lastMonth", "devices", "device", "channel", "revoked", "."];

fn refuse(error: &serde_path_to_error::Error<serde_json::Error>) -> Unreadable {
    if error.inner().classify() != serde_json::error::Category::Data {
        return Unreadable::NotJson;
    }
    let path = error.path().to_string();
    let known: Vec<&str> = path.split('.').take_while(|segment| MEMBERS.contains(segment)).collect();
    Unreadable::Member(if known.is_empty() { "the object".to_owned() } else { known.join(".") })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
