//! Request bodies, read completely within a size limit and a deadline, and the JSON in those of the administration, the
//! shopper's side and the demo. Every problem is reported with its position. Values are never quoted, since one may be
//! a key.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};
use tokio::time::{Instant, timeout_at};

use super::error::Refused;
use crate::clock::later;
use crate::directory::{Problem, file, placeholder};
use crate::server::Arrival;

/// The longest allowed request body, in bytes.
const MAX_BODY: usize = 64 * 1024;
/// The time for a body, from the request's head.
const BODY_TIME: Duration = Duration::from_secs(5);

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// It is longer than [`MAX_BODY`].
    TooLong,
    /// It was not complete in time, or the connection broke.
    Incomplete,
}

/// Reads a body completely.
///
/// # Errors
/// When the body is longer than [`MAX_BODY`] (without reading it, if its `Content-Length` says so), when it is not
/// complete at `deadline`, or when the connection breaks.
pub(crate) async fn collect(body: Body, deadline: Instant) -> Result<Bytes, BodyError> {
    if body.size_hint().lower() > MAX_BODY as u64 {
        return Err(BodyError::TooLong);
    }
    match timeout_at(deadline, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) => {
            let too_long = error.is::<LengthLimitError>();
            tracing::debug!(too_long, "request body refused");
            Err(if too_long { BodyError::TooLong } else { BodyError::Incomplete })
        }
        Err(_) => Err(BodyError::Incomplete),
    }
}

/// Why a body is refused.
#[derive(Debug)]
pub(crate) enum BadDocument {
    TooLong,
    /// The message has the position and what is wrong, never a value.
    Invalid(Cow<'static, str>),
}

/// The text of a body that must be JSON.
pub(crate) struct Document(String);

/// Deserializes from an object only. A derived `Deserialize` would also accept an array with the members in order.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

impl IntoResponse for BadDocument {
    fn into_response(self) -> Response {
        let refused = match self {
            Self::TooLong => Refused::too_long(),
            Self::Invalid(message) => Refused::bad_row(message),
        };
        refused.into_response()
    }
}

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = BadDocument;

    async fn from_request(request: Request, _: &S) -> Result<Self, BadDocument> {
        // The access log gives an arrival to every request.
        let arrival = request.extensions().get().map_or_else(Instant::now, |arrival: &Arrival| arrival.at);
        let body = collect(request.into_body(), later(arrival, BODY_TIME)).await;
        let body = body.map_err(|error| match error {
            BodyError::TooLong => BadDocument::TooLong,
            BodyError::Incomplete => BadDocument::Invalid("the body: was not complete within 5 s".into()),
        })?;
        let text = String::from_utf8(body.into());
        text.map(Self).map_err(|_| BadDocument::Invalid("the body: is not UTF-8".into()))
    }
}

/// The maximum number of problems that are reported for a body: each needs another pass.
const MAX_PROBLEMS: usize = 20;

/// Reads an object and finds all problems of its members, not only the first. Since serde stops at the first bad value,
/// bad values are removed or replaced one after the other.
///
/// # Errors
/// All problems, if no object can be read.
pub(crate) fn read_with_problems<T: DeserializeOwned>(text: &str) -> Result<(T, Vec<Problem>), Vec<Problem>> {
    let first_problem = match parse(text) {
        Ok(Object(object)) => return Ok((object, Vec::new())),
        Err(problem) => problem,
    };
    let Ok(mut value @ Value::Object(_)) = serde_json::from_str(text) else { return Err(vec![first_problem]) };
    let mut problems = Vec::new();
    if first_problem.message.starts_with("duplicate field") {
        problems.push(first_problem); // the parsed value no longer shows it: it has only one of the two
    }
    for _ in 0..MAX_PROBLEMS {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(Object(object)) => return Ok((object, problems)),
            Err(error) => error,
        };
        let problem = problem_of(&error);
        let is_replaced = replace_bad_value(&mut value, error.path(), &problem.message);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
        if !is_replaced {
            break;
        }
    }
    Err(problems)
}

/// Removes the bad value, or replaces it with a placeholder if the member is required. Returns whether that was
/// possible.
fn replace_bad_value(value: &mut Value, path: &Path, message: &str) -> bool {
    let is_unknown = message.starts_with("unknown field");
    let missing = message.strip_prefix("missing field `").and_then(|name| name.split('`').next());
    let segments = path.iter().filter(|segment| matches!(segment, Segment::Map { .. } | Segment::Seq { .. }));
    let missing = missing.map(|name| Segment::Map { key: name.to_owned() });
    let mut segments: Vec<&Segment> = segments.chain(&missing).collect();
    let Some(last) = segments.pop() else { return false };
    let parent = segments.into_iter().try_fold(value, |value, segment| match segment {
        Segment::Map { key } => value.get_mut(key),
        Segment::Seq { index } => value.get_mut(index),
        _ => None,
    });
    match (last, parent) {
        (Segment::Map { key }, Some(Value::Object(members))) => match placeholder(key).filter(|_| !is_unknown) {
            Some(placeholder) => {
                members.insert(key.clone(), placeholder);
                true
            }
            None => members.remove(key).is_some(),
        },
        (Segment::Seq { index }, Some(Value::Array(items))) => {
            items.get_mut(*index).is_some_and(|item| std::mem::replace(item, "-".into()) != "-")
        }
        _ => false,
    }
}

/// Parses a complete text.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let document = serde_path_to_error::deserialize(&mut json).map_err(|error| problem_of(&error))?;
    json.end().map_err(|error| Problem::new("end of the body", file::describe(&error)))?;
    Ok(document)
}

/// The problem and its position.
fn problem_of(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (path, message) = (error.path().to_string(), file::describe(error.inner()));
    // The path of an unknown field ends in its name, which may be a key.
    let shown_path =
        if message.starts_with("unknown field") { path.rsplit_once('.').map(|(outer, _)| outer) } else { Some(&*path) };
    let position = shown_path.filter(|path| !matches!(*path, "." | "?")).unwrap_or("the body");
    Problem::new(shortened(position), message)
}

/// A position in the sender's JSON, without control characters and cut to 100 characters: the sender chooses its names.
fn shortened(position: &str) -> String {
    const MAX_LENGTH: usize = 100;
    let mut shown: String = position.chars().filter(|character| !character.is_control()).take(MAX_LENGTH).collect();
    if shown.len() < position.len() {
        shown.push('…');
    }
    shown
}

impl Document {
    /// The unparsed text.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Parses it as an object.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, BadDocument> {
        self.parse().map(|Object(object)| object)
    }

    /// Parses it as an array of objects.
    pub(crate) fn read_all<T: DeserializeOwned>(&self) -> Result<Vec<T>, BadDocument> {
        let all: Vec<Object<T>> = self.parse()?;
        Ok(all.into_iter().map(|Object(object)| object).collect())
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, BadDocument> {
        parse(&self.0).map_err(|problem| BadDocument::Invalid(problem.to_string().into()))
    }
}
