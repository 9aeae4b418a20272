//! Paged lists: a request has `limit` and `cursor`; an answer has the rows and, if there are more, `nextCursor`.
//!
//! A cursor identifies the last row of a page. It is not a number of rows, so rows that are added or deleted between
//! two pages make no other row appear twice or not at all.

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
use utoipa::openapi::schema::{Array, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::admin::AdminError;
use crate::http::openapi::{Refusals, refusals};

/// The largest `limit`.
const MAX_LIMIT: usize = 1000;
/// The default `limit`.
const DEFAULT_LIMIT: usize = 100;
/// The query parameters of a list.
const PARAMETERS: [&str; 2] = ["limit", "cursor"];
/// The message for a bad query parameter of a list.
const BAD_PAGE: &str = "limit must be 1 to 1000, cursor must be the nextCursor of the page before";

/// The query parameters of a list.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// The maximum number of rows of a page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `nextCursor` of the page before.
    cursor: Option<String>,
}

refusals! {
    BadPage = Refusals::default().exactly([AdminError::BadQuery(BAD_PAGE.into())]);
}

/// Refuses unknown query parameters. An ignored misspelt filter would show rows that the caller does not want.
pub(crate) async fn refuse_unknown_parameters(path: MatchedPath, request: Request, next: Next) -> Response {
    let is_list = matches!(*request.method(), Method::GET | Method::HEAD) && !path.as_str().contains('{');
    let (known, valid) = if is_list { (&PARAMETERS[..], BAD_PAGE) } else { (&[][..], "this call takes none") };
    let given = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let Query(given) = given.unwrap_or_default();
    let Some((name, _)) = given.iter().find(|(name, _)| !known.contains(&&**name)) else {
        return next.run(request).await;
    };
    // A name that is no word is not quoted: it may be a key.
    let is_word = (1..=32).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let name = if is_word { name } else { "the query" };
    AdminError::BadQuery(format!("{name}: unknown parameter; {valid}").into()).into_response()
}

impl<S: Send + Sync> FromRequestParts<S> for PageQuery {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let query = Query::<Self>::from_request_parts(parts, state).await;
        let query = query.ok().map(|Query(query)| query).filter(|query| (1..=MAX_LIMIT).contains(&query.limit()));
        query.ok_or(AdminError::BadQuery(BAD_PAGE.into()))
    }
}

impl PageQuery {
    /// The maximum number of rows of the page.
    pub(crate) fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT)
    }

    /// The number of rows to read: an extra row shows that there is another page.
    pub(crate) fn limit_plus_one(&self) -> usize {
        self.limit().saturating_add(1)
    }

    /// The row after which the page begins, parsed from the cursor.
    pub(crate) fn after<T>(&self, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, AdminError> {
        self.cursor.as_deref().map(|cursor| parse(cursor).ok_or(AdminError::BadQuery(BAD_PAGE.into()))).transpose()
    }

    /// Removes the extra row. Returns the cursor of the next page, if there was one.
    pub(crate) fn truncate<T>(&self, rows: &mut Vec<T>, cursor: impl FnOnce(&T) -> String) -> Option<String> {
        let more = rows.len() > self.limit();
        rows.truncate(self.limit());
        rows.last().filter(|_| more).map(cursor)
    }
}

/// Encodes a text or bytes as a cursor.
pub(crate) fn cursor(row: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(row)
}

/// Decodes a [`cursor()`].
pub(crate) fn parse_cursor(cursor: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()
}

/// A page: `{"<name>": […], "nextCursor": "…"}`.
pub(crate) struct List<T> {
    pub(crate) rows: Vec<T>,
    /// The cursor of the next page, if there is one.
    pub(crate) next: Option<String>,
}

/// A row of a list.
pub(crate) trait Listed {
    /// The member that has the rows.
    const NAME: &'static str;
}

/// Names the list of these rows, and the member that has them.
macro_rules! list {
    ($list:ident of $row:ident $(<$lifetime:lifetime>)? as $name:literal) => {
        type $list $(<$lifetime>)? = List<$row $(<$lifetime>)?>;

        impl $(<$lifetime>)? Listed for $row $(<$lifetime>)? {
            const NAME: &'static str = $name;
        }
    };
}
pub(crate) use list;

impl<T: Listed + ToSchema> ToSchema for List<T> {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

impl<T: Listed + ToSchema> PartialSchema for List<T> {
    fn schema() -> RefOr<Schema> {
        let cursor = ObjectBuilder::new().schema_type(Type::String);
        ObjectBuilder::new()
            .property(T::NAME, Array::new(Ref::from_schema_name(T::name())))
            .required(T::NAME)
            .property("nextCursor", cursor.description(Some("The cursor of the next page. Absent on the last page.")))
            .into()
    }
}

impl<T: Listed + Serialize> Serialize for List<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry(T::NAME, &self.rows)?;
        if let Some(next) = &self.next {
            members.serialize_entry("nextCursor", next)?;
        }
        members.end()
    }
}

impl<T: Listed + Serialize> IntoResponse for List<T> {
    fn into_response(self) -> Response {
        Json(self).into_response()
    }
}
