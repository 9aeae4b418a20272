//! Extractors for administration: the id in a request's path, and the row in its body. Problems are reported with their
//! position. Values are never quoted, since one may be a key.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::AdminError;
use crate::digest::Digest;
use crate::directory::Problem;
use crate::domain::ids::{StoreId, TextIdError, VisitorId};
use crate::http::document::{Document, read_with_problems};
use crate::http::members::Members;
use crate::http::openapi::{Refusals, refusals};

const BAD_DIGEST: &str = "digest: must be 64 hexadecimal digits, as in the lists";

/// An id in a path.
pub(super) trait PathId: Sized {
    /// Parses the id. The error is the message of the refusal.
    fn parse(text: &str) -> Result<Self, String>;
}

impl PathId for StoreId {
    fn parse(text: &str) -> Result<Self, String> {
        text_id(text, Self::parse)
    }
}

impl PathId for VisitorId {
    fn parse(text: &str) -> Result<Self, String> {
        text_id(text, Self::parse)
    }
}

impl PathId for Digest {
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_hex(text).ok_or_else(|| BAD_DIGEST.to_owned())
    }
}

fn text_id<T>(text: &str, parse: fn(&str) -> Result<T, TextIdError>) -> Result<T, String> {
    if text.contains('\0') {
        return Err("id: must not contain U+0000: PostgreSQL cannot store it".to_owned());
    }
    parse(text).map_err(|error| format!("id: {error}"))
}

/// Describes the id in a path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only a description: `Id` extracts it")]
pub(super) struct IdParameter {
    /// Percent-encoded, without U+0000.
    #[param(min_length = 1, max_length = 255)]
    id: String,
}

/// Describes the digest in a path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "as above")]
pub(super) struct DigestParameter {
    /// The digest, as in the list.
    #[param(min_length = 1, max_length = 64, pattern = "^[0-9a-f]{64}$")]
    digest: String,
}

/// The description of every PUT of a row.
pub(super) const PUT: &str = "Unknown members are refused, so that a misspelt one is noticed. The message lists all \
                              problems and never quotes a value.";

/// An example of a refusal of a row or of its id.
pub(super) fn bad_row(message: &'static str) -> AdminError {
    AdminError::BadRow(message.into())
}

pub(super) const BAD_ID: &str = "id: is longer than 255 characters";

refusals! {
    BadId = Refusals::default().such_as([bad_row(BAD_ID)]);
    BadDigest = Refusals::default().such_as([bad_row(BAD_DIGEST)]);
}

/// Extracts the id in the path.
pub(super) struct Id<T>(pub(super) T);

impl<T: PathId, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|_| AdminError::BadRow("id: must be percent-encoded UTF-8".into()))?;
        T::parse(&text).map(Self).map_err(|problem| AdminError::BadRow(problem.into()))
    }
}

/// Extracts the row in the body, with its problems. The row may contain a key.
pub(super) struct RowBody<T> {
    pub(super) row: T,
    /// Whether the body has an `id`.
    has_id: bool,
    problems: Vec<Problem>,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for RowBody<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AdminError> {
        let document = Document::from_request(request, state).await?;
        // As in a directory file: some programs begin every text with a byte order mark.
        let text = document.text().strip_prefix('\u{feff}').unwrap_or(document.text());
        let (row, problems) = read_with_problems(text).map_err(|problems| refuse(&problems))?;
        let has_id = Members::parse(text, ["id"]).is_some_and(|members| members.values.iter().any(Option::is_some));
        Ok(Self { row, has_id, problems })
    }
}

impl<T> RowBody<T> {
    /// Sets the row's id to that in the path. The body's id may be absent, and must not differ.
    pub(super) fn with_path_id(mut self, path: &str, own: impl FnOnce(&mut T) -> &mut String) -> Self {
        let own = own(&mut self.row);
        if self.has_id && own != path && !self.problems.iter().any(|problem| problem.path == "id") {
            self.problems.push(Problem::new("id", "must be the id in the path, or absent"));
        }
        path.clone_into(own);
        self
    }

    /// Checks the row. Returns the checked value, or a refusal with all problems.
    pub(super) fn checked<V>(self, check: impl FnOnce(&T) -> Result<V, Vec<Problem>>) -> Result<V, AdminError> {
        let mut problems = self.problems;
        match check(&self.row) {
            Ok(checked) if problems.is_empty() => return Ok(checked),
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

fn refuse(problems: &[Problem]) -> AdminError {
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    AdminError::BadRow(problems.join("; ").into())
}
