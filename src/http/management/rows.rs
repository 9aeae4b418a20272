//! What a request names and holds: the id in its path, the row in its body. What is wrong with either is told by its place; a value
//! is never quoted, since it may be a key.

use std::time::Duration;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::directory::{Problem, file};
use crate::domain::ids::{StoreId, TextIdError, VisitorId};
use crate::http::body::{self, Unread};
use crate::http::error::ApiError;
use crate::http::members::Members;
use crate::http::request_log::Arrival;

/// How long a body may take, from the head of its request.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What a path may name.
pub(super) trait Named: Sized {
    /// Reads it, or says what would do.
    fn parse(text: &str) -> Result<Self, String>;
}

impl Named for StoreId {
    fn parse(text: &str) -> Result<Self, String> {
        text_id(text, Self::parse)
    }
}

impl Named for VisitorId {
    fn parse(text: &str) -> Result<Self, String> {
        text_id(text, Self::parse)
    }
}

impl Named for Digest {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_hex(text).ok_or_else(|| "digest: must be 64 hexadecimal digits, as the lists tell them".to_owned())
    }
}

fn text_id<T>(text: &str, parse: fn(&str) -> Result<T, TextIdError>) -> Result<T, String> {
    if text.contains('\0') {
        return Err("id: must not contain U+0000: not every database can keep it".to_owned());
    }
    parse(text).map_err(|error| format!("id: {error}"))
}

/// What the path names.
pub(super) struct Id<T>(pub(super) T);

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|_| ApiError::BadRow("id: is not UTF-8, percent-encoded".to_owned()))?;
        T::parse(&text).map(Self).map_err(ApiError::BadRow)
    }
}

/// A body that is to be a row. It may hold a key.
pub(super) struct Row(String);

impl<S: Send + Sync> FromRequest<S> for Row {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Extension(Arrival(arrival)) = Extension::from_request_parts(&mut parts, state)
            .await
            .map_err(|error| ApiError::Internal { reason: "no_arrival", cause: error.to_string() })?;
        let body = body::collect(body, arrival.checked_add(BODY_TIME).unwrap_or(arrival)).await;
        let body = body.map_err(|unread| match unread {
            Unread::TooLong => ApiError::TooLong,
            Unread::Incomplete => ApiError::BadRow("the body: was not complete in time".to_owned()),
        })?;
        let text = String::from_utf8(body.into());
        text.map(Self).map_err(|_| ApiError::BadRow("the body: is not UTF-8".to_owned()))
    }
}

impl Row {
    /// Reads it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let mut json = serde_json::Deserializer::from_str(&self.0);
        let row = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let (path, what) = (error.path().to_string(), file::describe(error.inner()));
            // The path ends in the name of a field that is not known, and that may be a key.
            let known = if what.starts_with("unknown field") {
                path.rsplit_once('.').map(|(outer, _)| outer)
            } else {
                Some(&*path)
            };
            let place = known.filter(|place| !matches!(*place, "." | "?")).unwrap_or("the body");
            ApiError::BadRow(Problem::new(place, what).to_string())
        })?;
        json.end().map_err(|error| ApiError::BadRow(format!("end of the body: {}", file::describe(&error))))?;
        Ok(row)
    }

    /// Whether it has a member of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        Members::parse(&self.0, [name]).is_some_and(|members| members.values.iter().any(Option::is_some))
    }
}

/// A row's own id, where the path has it already: it may be left out, and must not be another.
pub(super) fn agreed(row: &Row, own: String, path: &str) -> Result<String, ApiError> {
    match own {
        _ if !row.has("id") => Ok(path.to_owned()),
        own if own == path => Ok(own),
        _ => Err(ApiError::BadRow("id: is not the one in the path".to_owned())),
    }
}

/// What was found sound, or everything that was not.
pub(super) fn sound<T>(checked: Result<T, Vec<Problem>>) -> Result<T, ApiError> {
    checked.map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        ApiError::BadRow(problems.join("; "))
    })
}
