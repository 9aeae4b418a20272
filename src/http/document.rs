//! A JSON body in which every mistake is told by its place, and no value is quoted: it may be a key.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts as _, Request};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::body::{self, Unread};
use super::caller::Arrival;
use super::error::ApiError;
use super::members::Members;
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
        let mut json = serde_json::Deserializer::from_str(&self.0);
        let document = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, what) = (error.path().to_string(), file::describe(error.inner()));
            // The path ends in the name of a field that is not known, and that may be a key.
            let known = if what.starts_with("unknown field") {
                path.rsplit_once('.').map(|(outer, _)| outer)
            } else {
                Some(&*path)
            };
            let place = known.filter(|place| !matches!(*place, "." | "?")).unwrap_or("the body");
            ApiError::BadRow(Problem::new(shortened(place), what).to_string().into())
        })?;
        json.end().map_err(|error| ApiError::BadRow(format!("end of the body: {}", file::describe(&error)).into()))?;
        Ok(document)
    }

    /// Whether it has a member of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        Members::parse(&self.0, [name]).is_some_and(|members| members.values.iter().any(Option::is_some))
    }
}
