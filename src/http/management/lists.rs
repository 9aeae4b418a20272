//! Lists, a page at a time: `limit` and `cursor` go in, the rows and `nextCursor` come out while there are more.
//!
//! A cursor is the place of the last row that was shown, not a number of rows: what is added or taken away meanwhile makes nobody else
//! appear twice or not at all.

use axum::Json;
use axum::extract::{FromRequestParts, MatchedPath, Query, Request};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::http::error::ApiError;

/// The longest page.
pub(in crate::http) const MAX_PAGE: usize = 1000;
/// The length of a page where none is asked for.
pub(in crate::http) const PAGE: usize = 100;
/// The parameters that say which page.
const PARAMETERS: [&str; 2] = ["limit", "cursor"];
/// What would do.
pub(in crate::http) const WANTED: &str = "limit is 1 to 1000, cursor is what nextCursor was";

/// Which page is asked for.
#[derive(Debug, Deserialize)]
pub(super) struct PageQuery {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// Refuses a parameter that a route does not have, since it is a misspelt one: a filter that is ignored shows what is not asked for.
pub(super) async fn refuse_unknown_parameters(path: MatchedPath, request: Request, next: Next) -> Response {
    let is_list = matches!(*request.method(), Method::GET | Method::HEAD) && !path.as_str().contains('{');
    let (known, wanted) = if is_list { (&PARAMETERS[..], WANTED) } else { (&[][..], "it has none") };
    let given = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let Query(given) = given.unwrap_or_default();
    let Some((name, _)) = given.iter().find(|(name, _)| !known.contains(&&**name)) else {
        return next.run(request).await;
    };
    // What is no word may be a key that is in the wrong place.
    let is_word = (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let name = if is_word { name } else { "this parameter" };
    ApiError::BadQuery(format!("{name}: is not a parameter of this call; {wanted}").into()).into_response()
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|_| ApiError::BadQuery(WANTED.into()))?;
        if (1..=MAX_PAGE).contains(&query.limit()) { Ok(query) } else { Err(ApiError::BadQuery(WANTED.into())) }
    }
}

impl PageQuery {
    /// How many rows are wanted.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE)
    }

    /// One more than is wanted tells whether there are any.
    pub(super) fn one_more(&self) -> usize {
        self.limit().saturating_add(1)
    }

    /// Behind which place the page begins, as `parse` reads the cursor.
    pub(super) fn after<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, ApiError> {
        self.cursor.as_deref().map(|cursor| parse(cursor).ok_or(ApiError::BadQuery(WANTED.into()))).transpose()
    }

    /// Cuts off the row that is one too many; where the next page begins, if it was there.
    pub(super) fn cut<T>(&self, rows: &mut Vec<T>, cursor: impl FnOnce(&T) -> String) -> Option<String> {
        let more = rows.len() > self.limit();
        rows.truncate(self.limit());
        rows.last().filter(|_| more).map(cursor)
    }
}

/// A text as a cursor, whatever characters are in it.
pub(super) fn text_cursor(text: &str) -> String {
    bytes_cursor(text.as_bytes())
}

/// Reads a [`text_cursor`].
pub(super) fn parse_text_cursor(cursor: &str) -> Option<String> {
    String::from_utf8(parse_bytes_cursor(cursor)?).ok()
}

/// Bytes as a cursor.
pub(super) fn bytes_cursor(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a [`bytes_cursor`].
pub(super) fn parse_bytes_cursor(cursor: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()
}

/// A page: `{"<name>": […], "nextCursor": "…"}`.
pub(super) struct List<T> {
    pub(super) name: &'static str,
    pub(super) rows: Vec<T>,
    /// Where the next page begins, when there is one.
    pub(super) next: Option<String>,
}

impl<T: Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry(self.name, &self.rows)?;
        if let Some(next) = &self.next {
            members.serialize_entry("nextCursor", next)?;
        }
        members.end()
    }
}

impl<T: Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}
