//! `/admin/v1/identity-keys` and `/admin/v1/recognition-tokens`.
//!
//! A key or token is sent in a body, never in a URL, since proxies log URLs. Only its digest is kept and shown. A token
//! that is made here is shown once, in the answer.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lists::{List, PageQuery};
use super::rows::{Id, RowBody};
use super::{AdminError, Management};
use crate::administration::new_secret;
use crate::digest::{Digest, HashKey};
use crate::directory::{
    Change, IdentityKeyRow, Kind, Link, Problem, RecognitionTokenRow, identity_key, recognition_token,
};

/// The differences between identity keys and recognition tokens.
trait Registered: DeserializeOwned + Serialize + Send + 'static {
    const KIND: Kind;
    const LIST: &'static str;

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>>;
    fn from_stored(digest: &Digest, link: &Link) -> Self;
}

impl Registered for IdentityKeyRow {
    const KIND: Kind = Kind::IdentityKey;
    const LIST: &'static str = "identityKeys";

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>> {
        identity_key(self, hash_key)
    }

    fn from_stored(digest: &Digest, link: &Link) -> Self {
        Self::from_stored(digest, link)
    }
}

impl Registered for RecognitionTokenRow {
    const KIND: Kind = Kind::RecognitionToken;
    const LIST: &'static str = "recognitionTokens";

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>> {
        recognition_token(self, hash_key)
    }

    fn from_stored(digest: &Digest, link: &Link) -> Self {
        Self::from_stored(digest, link)
    }
}

/// The row of a token and, if it was made here, the token itself. It is shown only this once.
#[derive(Serialize)]
struct PutToken {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(flatten)]
    row: RecognitionTokenRow,
}

pub(super) fn routes() -> Router<Management> {
    let keys = routes_of::<IdentityKeyRow>("/admin/v1/identity-keys", put(put_key));
    keys.merge(routes_of::<RecognitionTokenRow>("/admin/v1/recognition-tokens", put(put_token)))
}

fn routes_of<R: Registered>(path: &str, put: MethodRouter<Management>) -> Router<Management> {
    Router::new()
        .route(path, put.get(list::<R>))
        .route(&format!("{path}/{{digest}}"), get(get_row::<R>).delete(delete::<R>))
        .route(&format!("{path}/{{digest}}/revoke"), post(revoke::<R>))
}

async fn list<R: Registered>(State(management): State<Management>, page: PageQuery) -> Result<List<R>, AdminError> {
    let after = page.after(Digest::from_hex)?;
    let mut rows = management.administration.directory.registrations(R::KIND, after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut rows, |(digest, _)| digest.to_hex());
    Ok(List { name: R::LIST, rows: rows.iter().map(|(digest, link)| R::from_stored(digest, link)).collect(), next })
}

async fn get_row<R: Registered>(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<Json<R>, AdminError> {
    let link = management.administration.directory.link(R::KIND, digest).await?;
    link.map(|link| Json(R::from_stored(&digest, &link))).ok_or(AdminError::NotFound)
}

async fn put_key(
    State(management): State<Management>,
    body: RowBody<IdentityKeyRow>,
) -> Result<Json<IdentityKeyRow>, AdminError> {
    register(&management, body).await.map(Json)
}

async fn put_token(
    State(management): State<Management>,
    mut body: RowBody<RecognitionTokenRow>,
) -> Result<Json<PutToken>, AdminError> {
    let mut made = None;
    if body.row.token.is_none() && body.row.digest.is_none() {
        let token =
            new_secret().map_err(|error| AdminError::Internal { reason: "randomness", cause: error.to_string() })?;
        made = Some(token.expose_secret().to_owned());
        body.row.token.clone_from(&made);
    }
    Ok(Json(PutToken { token: made, row: register(&management, body).await? }))
}

async fn register<R: Registered>(management: &Management, body: RowBody<R>) -> Result<R, AdminError> {
    let hash_key = management.administration.directory.hash_key();
    let (digest, link) = body.checked(|row| row.check(hash_key))?;
    let row = R::from_stored(&digest, &link);
    management.administration.change(Change::PutRegistration(R::KIND, digest, link)).await?;
    Ok(row)
}

async fn revoke<R: Registered>(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<Json<R>, AdminError> {
    management.administration.change(Change::Revoke(R::KIND, digest)).await?;
    get_row(State(management), Id(digest)).await
}

async fn delete<R: Registered>(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<StatusCode, AdminError> {
    management.administration.change(Change::DeleteRegistration(R::KIND, digest)).await?;
    Ok(StatusCode::NO_CONTENT)
}
