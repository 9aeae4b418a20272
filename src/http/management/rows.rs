//! What a request names and holds: the id in its path, the row in its body. What is wrong with either is told by its place; a value
//! is never quoted, since it may be a key.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::directory::Problem;
use crate::domain::ids::{StoreId, TextIdError, VisitorId};
use crate::http::document::{Document, read_as_far_as_possible};
use crate::http::error::ApiError;
use crate::http::members::Members;

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
        return Err("id: must not contain U+0000: PostgreSQL cannot store it".to_owned());
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

/// The row of a body as far as it can be read, and what is wrong with the rest of it. It may hold a key.
pub(super) struct Wanted<T> {
    pub(super) row: T,
    /// Whether the body says an id.
    has_id: bool,
    problems: Vec<Problem>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Wanted<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let document = Document::from_request(request, state).await?;
        // As in a file: some programs put a byte order mark before every text.
        let text = document.text().strip_prefix('\u{feff}').unwrap_or(document.text());
        let (row, problems) = read_as_far_as_possible(text).map_err(|problems| refuse(&problems))?;
        let has_id = Members::parse(text, ["id"]).is_some_and(|members| members.values.iter().any(Option::is_some));
        Ok(Self { row, has_id, problems })
    }
}

impl<T> Wanted<T> {
    /// Gives the row the id that is in the path: its own may be left out, and must not be another.
    pub(super) fn named(mut self, path: &str, own: impl FnOnce(&mut T) -> &mut String) -> Self {
        let own = own(&mut self.row);
        if self.has_id && own != path && !self.problems.iter().any(|problem| problem.path == "id") {
            self.problems.push(Problem::new("id", "is not the one in the path"));
        }
        path.clone_into(own);
        self
    }

    /// What is found sound, or everything that is not.
    pub(super) fn sound<V>(self, check: impl FnOnce(&T) -> Result<V, Vec<Problem>>) -> Result<V, ApiError> {
        let mut problems = self.problems;
        match check(&self.row) {
            Ok(sound) if problems.is_empty() => return Ok(sound),
            Ok(_) => {}
            Err(others) => {
                let is_new = |other: &Problem| !problems.iter().any(|problem| problem.path == other.path);
                let others: Vec<Problem> = others.into_iter().filter(is_new).collect();
                problems.extend(others);
            }
        }
        Err(refuse(&problems))
    }
}

fn refuse(problems: &[Problem]) -> ApiError {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    ApiError::BadRow(problems.join("; ").into())
}
