//! What a request names and holds: the id in its path, the row in its body. What is wrong with either is told by its place; a value
//! is never quoted, since it may be a key.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::digest::Digest;
use crate::directory::Problem;
use crate::domain::ids::{StoreId, TextIdError, VisitorId};
use crate::http::error::ApiError;

/// A body that is to be a row. It may hold a key.
pub(super) use crate::http::document::Document as Row;

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
        let Path(text) = text.map_err(|_| ApiError::BadRow("id: is not UTF-8, percent-encoded".into()))?;
        T::parse(&text).map(Self).map_err(|problem| ApiError::BadRow(problem.into()))
    }
}

/// A row's own id, where the path has it already: it may be left out, and must not be another.
pub(super) fn agreed(row: &Row, own: String, path: &str) -> Result<String, ApiError> {
    match own {
        _ if !row.has("id") => Ok(path.to_owned()),
        own if own == path => Ok(own),
        _ => Err(ApiError::BadRow("id: is not the one in the path".into())),
    }
}

/// What was found sound, or everything that was not.
pub(super) fn sound<T>(checked: Result<T, Vec<Problem>>) -> Result<T, ApiError> {
    checked.map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        ApiError::BadRow(problems.join("; ").into())
    })
}
