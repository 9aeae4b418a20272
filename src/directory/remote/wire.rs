//! The JSON of a look-up request and its answer, as documented in `docs/identity-backend.md`.
//!
//! An answer is checked as strictly as a directory file, with the same rules and member names. An error never repeats a
//! value of the answer, which may contain the key.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::LookupRequest;
use crate::directory::check::{self, Problem};
use crate::directory::rows::{ShopperRow, channel};
use crate::directory::{Kind, Registration};
use crate::domain::scan::KeyChannel;
use crate::domain::visitor::Holder;

/// The maximum length of an answer, in bytes.
pub(super) const MAX_ANSWER_BYTES: usize = 16 * 1024;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestBody<'a> {
    kind: &'static str,
    value: &'a str,
    channel: Option<&'static str>,
    store_id: &'a str,
}

/// The body of a look-up request.
pub(super) fn write(request: &LookupRequest<'_>) -> Vec<u8> {
    let body = RequestBody {
        kind: request.kind.as_str(),
        value: request.value,
        channel: request.context.channel.map(KeyChannel::as_str),
        store_id: request.context.store.as_str(),
    };
    serde_json::to_vec(&body).unwrap_or_default() // cannot fail: there are only texts
}

/// The body of a 200 answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnswerBody {
    shopper: Option<ShopperRow>,
    device: Option<String>,
    #[serde(default, with = "channel")]
    channel: Option<KeyChannel>,
    #[serde(default)]
    revoked: bool,
}

/// Why the body of a 200 answer is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InvalidAnswer {
    TooLong,
    NotJson,
    /// The member at this path has a wrong type or value, or an unknown member.
    Member(String),
    Problem(Problem),
}

impl fmt::Display for InvalidAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "is longer than {} KiB", MAX_ANSWER_BYTES.div_euclid(1024)),
            Self::NotJson => f.write_str("is not a single JSON object"),
            Self::Member(path) => write!(f, "{path}: wrong type, invalid value, or unknown member"),
            Self::Problem(problem) => write!(f, "{problem}"),
        }
    }
}

/// Reads the body of a 200 answer.
pub(super) fn read(kind: Kind, body: &[u8]) -> Result<Registration, InvalidAnswer> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(InvalidAnswer::NotJson); // serde also accepts an array for a struct
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let found: AnswerBody = serde_path_to_error::deserialize(&mut json).map_err(|error| invalid_answer(&error))?;
    json.end().map_err(|_| InvalidAnswer::NotJson)?;
    let first_problem =
        |problems: Vec<Problem>| problems.into_iter().next().map_or(InvalidAnswer::NotJson, InvalidAnswer::Problem);
    let invalid = |path: &str, message: &str| InvalidAnswer::Problem(Problem::new(path, message));
    if kind == Kind::RecognitionToken && found.channel.is_some() {
        return Err(invalid("channel", "must be absent: a recognition token is valid on any channel"));
    }
    let device = found.device.as_deref().map(check::device).transpose().map_err(first_problem)?;
    let profile = found.shopper.as_ref().map(check::shopper).transpose();
    let profile = profile
        .map_err(|problems| first_problem(problems.into_iter().map(|problem| problem.within("shopper")).collect()))?;
    match profile {
        Some(profile) if !profile.devices.is_empty() => {
            Err(invalid("shopper.devices", "must be absent or empty: give the key's device as `device`"))
        }
        _ if found.revoked => Ok(Registration::Revoked),
        Some(profile) => {
            let holder = Holder { shopper: Arc::new(profile.shopper), device };
            Ok(Registration::Active { holder, channel: found.channel })
        }
        None => Err(invalid("shopper", "is missing: only a revoked key or token may have no shopper")),
    }
}

/// All member names of an answer. An error repeats no other name.
const MEMBERS: [&str; 11] =
    ["shopper", "id", "type", "account", "paymentMethod", "lastMonth", "devices", "device", "channel", "revoked", "."];

fn invalid_answer(error: &serde_path_to_error::Error<serde_json::Error>) -> InvalidAnswer {
    if error.inner().classify() != serde_json::error::Category::Data {
        return InvalidAnswer::NotJson;
    }
    let path = error.path().to_string();
    let known_names: Vec<&str> = path.split('.').take_while(|segment| MEMBERS.contains(segment)).collect();
    InvalidAnswer::Member(if known_names.is_empty() { "the object".to_owned() } else { known_names.join(".") })
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
