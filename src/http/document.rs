//! A JSON body in which every mistake is told by its place, and no value is quoted: it may be a key.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::body::{self, Unread};
use super::caller::Arrival;
use super::error::ApiError;
use crate::directory::{Problem, file};

/// How long a body may take, from the head of its request.
const BODY_TIME: Duration = Duration::from_secs(5);

/// A body that is to be JSON.
pub(super) struct Document(String);

/// What is read from an object alone: a type with derived reading takes an array as well, by the order of its members.
pub(super) struct Object<T>(pub(super) T);

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

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Extension(Arrival { at: arrival, .. }) = Extension::from_request_parts(&mut parts, state)
            .await
            .map_err(|error| ApiError::Internal { reason: "no_arrival", cause: error.to_string() })?;
        let body = body::collect(body, arrival.checked_add(BODY_TIME).unwrap_or(arrival)).await;
        let body = body.map_err(|unread| match unread {
            Unread::TooLong => ApiError::TooLong,
            Unread::Incomplete => ApiError::BadRow("the body: was not complete in time".into()),
        })?;
        let text = String::from_utf8(body.into());
        text.map(Self).map_err(|_| ApiError::BadRow("the body: is not UTF-8".into()))
    }
}

/// How many values of a body are put aside at most: each takes another reading.
const NAMED: usize = 20;

/// Reads an object as far as it can be read: with it comes everything that is wrong with its members. Values that are wrong are put aside
/// one after the other, since serde stops at the first.
///
/// # Errors
/// With everything that is wrong, where that leaves no object to be read.
pub(super) fn read_as_far_as_possible<T: DeserializeOwned>(text: &str) -> Result<(T, Vec<Problem>), Vec<Problem>> {
    let first = match parse(text) {
        Ok(Object(object)) => return Ok((object, Vec::new())),
        Err(problem) => problem,
    };
    let Ok(mut value @ Value::Object(_)) = serde_json::from_str(text) else { return Err(vec![first]) };
    let mut problems = Vec::new();
    if first.message.starts_with("duplicate field") {
        problems.push(first); // the value has one of the two
    }
    for _ in 0..NAMED {
        let error = match serde_path_to_error::deserialize(&value) {
            Ok(Object(object)) => return Ok((object, problems)),
            Err(error) => error,
        };
        let problem = mistake(&error);
        let is_put_aside = put_aside(&mut value, error.path(), &problem.message);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
        if !is_put_aside {
            break;
        }
    }
    Err(problems)
}

/// Takes away the value at fault, or puts one that is sound in its place where one is needed; says whether it could.
fn put_aside(value: &mut Value, path: &Path, what: &str) -> bool {
    let is_unknown = what.starts_with("unknown field");
    let missing = what.strip_prefix("missing field `").and_then(|name| name.split('`').next());
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
        (Segment::Map { key }, Some(Value::Object(members))) => match sound(key).filter(|_| !is_unknown) {
            Some(sound) => {
                members.insert(key.clone(), sound);
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

/// A sound value of a member without which nothing can be said of the others.
fn sound(member: &str) -> Option<Value> {
    Some(match member {
        "type" => "SHOPPER".into(),
        "lastMonth" => "2099-12".into(),
        "digest" => "0".repeat(64).into(),
        "revoked" => true.into(),
        _ => return None,
    })
}

/// Reads a whole text.
fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_str(text);
    let document = serde_path_to_error::deserialize(&mut json).map_err(|error| mistake(&error))?;
    json.end().map_err(|error| Problem::new("end of the body", file::describe(&error)))?;
    Ok(document)
}

/// What is wrong, and where.
fn mistake(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let (path, what) = (error.path().to_string(), file::describe(error.inner()));
    // The path ends in the name of a field that is not known, and that may be a key.
    let known =
        if what.starts_with("unknown field") { path.rsplit_once('.').map(|(outer, _)| outer) } else { Some(&*path) };
    let place = known.filter(|place| !matches!(*place, "." | "?")).unwrap_or("the body");
    Problem::new(shortened(place), what)
}

/// A place in the sender's JSON, whose names are the sender's own: as much of it as a person needs to find it.
fn shortened(place: &str) -> String {
    const SHOWN: usize = 100;
    let mut shown: String = place.chars().filter(|character| !character.is_control()).take(SHOWN).collect();
    if shown.len() < place.len() {
        shown.push('…');
    }
    shown
}

impl Document {
    /// As it came.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Reads the object that it is to be.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        self.parse().map(|Object(object)| object)
    }

    /// Reads the array of objects that it is to be.
    pub(super) fn read_all<T: DeserializeOwned>(&self) -> Result<Vec<T>, ApiError> {
        let all: Vec<Object<T>> = self.parse()?;
        Ok(all.into_iter().map(|Object(object)| object).collect())
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        parse(&self.0).map_err(|problem| ApiError::BadRow(problem.to_string().into()))
    }
}
