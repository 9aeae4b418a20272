//! `/admin/v1/identity-keys` and `/admin/v1/recognition-tokens`.
//!
//! A key or token is sent in a body, never in a URL, since proxies log URLs. Only its digest is kept and shown. A token
//! that is made here is shown once, in the answer.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery};
use super::rows::{BadDigest, DigestParameter, Id, PUT, RowBody, bad_row};
use super::{AdminError, Management, NotFound, TooLong};
use crate::administration::new_secret;
use crate::digest::{Digest, HashKey};
use crate::directory::{
    Change, IdentityKeyRow, Kind, Link, Problem, RecognitionTokenRow, identity_key, recognition_token,
};
use crate::http::openapi::{Refusals, refusals};

/// The differences between identity keys and recognition tokens.
trait Registered: DeserializeOwned + Listed + Serialize + Send + 'static {
    const KIND: Kind;

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>>;
    fn from_stored(digest: &Digest, link: &Link) -> Self;
}

type IdentityKeys = List<IdentityKeyRow>;

impl Listed for IdentityKeyRow {
    const NAME: &'static str = "identityKeys";
}

impl Registered for IdentityKeyRow {
    const KIND: Kind = Kind::IdentityKey;

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>> {
        identity_key(self, hash_key)
    }

    fn from_stored(digest: &Digest, link: &Link) -> Self {
        Self::from_stored(digest, link)
    }
}

type RecognitionTokens = List<RecognitionTokenRow>;

impl Listed for RecognitionTokenRow {
    const NAME: &'static str = "recognitionTokens";
}

impl Registered for RecognitionTokenRow {
    const KIND: Kind = Kind::RecognitionToken;

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

refusals! {
    BadKey = Refusals::default().such_as([bad_row("device: not one of that shopper's devices")]);
    BadToken = Refusals::default().such_as([bad_row("shopper: no such shopper")]);
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default()
        .routes(routes!(list_keys, put_key))
        .routes(routes!(get_key, delete_key))
        .routes(routes!(revoke_key))
        .routes(routes!(list_tokens, put_token))
        .routes(routes!(get_token, delete_token))
        .routes(routes!(revoke_token))
}

/// List identity keys, ordered by digest
#[utoipa::path(
    get, path = "/admin/v1/identity-keys", operation_id = "listIdentityKeys", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(IdentityKeys)), BadPage)
)]
async fn list_keys(management: State<Management>, page: PageQuery) -> Result<IdentityKeys, AdminError> {
    list(management, page).await
}

/// Get an identity key
#[utoipa::path(
    get, path = "/admin/v1/identity-keys/{digest}", operation_id = "getIdentityKey", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = IdentityKeyRow), BadDigest, NotFound)
)]
async fn get_key(management: State<Management>, digest: Id<Digest>) -> Result<Json<IdentityKeyRow>, AdminError> {
    get_row(management, digest).await
}

/// Revoke an identity key: scans with it are denied from now on
#[utoipa::path(
    post, path = "/admin/v1/identity-keys/{digest}/revoke", operation_id = "revokeIdentityKey", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = IdentityKeyRow), BadDigest, NotFound)
)]
async fn revoke_key(management: State<Management>, digest: Id<Digest>) -> Result<Json<IdentityKeyRow>, AdminError> {
    revoke(management, digest).await
}

/// Delete an identity key
#[utoipa::path(
    delete, path = "/admin/v1/identity-keys/{digest}", operation_id = "deleteIdentityKey", params(DigestParameter),
    responses((status = 204, description = "Deleted."), BadDigest, NotFound)
)]
async fn delete_key(management: State<Management>, digest: Id<Digest>) -> Result<StatusCode, AdminError> {
    delete::<IdentityKeyRow>(management, digest).await
}

/// List recognition tokens, ordered by digest
#[utoipa::path(
    get, path = "/admin/v1/recognition-tokens", operation_id = "listRecognitionTokens", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(RecognitionTokens)), BadPage)
)]
async fn list_tokens(management: State<Management>, page: PageQuery) -> Result<RecognitionTokens, AdminError> {
    list(management, page).await
}

/// Get a recognition token
#[utoipa::path(
    get, path = "/admin/v1/recognition-tokens/{digest}", operation_id = "getRecognitionToken", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = RecognitionTokenRow), BadDigest, NotFound)
)]
async fn get_token(management: State<Management>, digest: Id<Digest>) -> Result<Json<RecognitionTokenRow>, AdminError> {
    get_row(management, digest).await
}

/// Revoke a recognition token: scans with it are denied from now on
#[utoipa::path(
    post, path = "/admin/v1/recognition-tokens/{digest}/revoke", operation_id = "revokeRecognitionToken", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = RecognitionTokenRow), BadDigest, NotFound)
)]
async fn revoke_token(
    management: State<Management>,
    digest: Id<Digest>,
) -> Result<Json<RecognitionTokenRow>, AdminError> {
    revoke(management, digest).await
}

/// Delete a recognition token
#[utoipa::path(
    delete, path = "/admin/v1/recognition-tokens/{digest}", operation_id = "deleteRecognitionToken", params(DigestParameter),
    responses((status = 204, description = "Deleted."), BadDigest, NotFound)
)]
async fn delete_token(management: State<Management>, digest: Id<Digest>) -> Result<StatusCode, AdminError> {
    delete::<RecognitionTokenRow>(management, digest).await
}

async fn list<R: Registered>(State(management): State<Management>, page: PageQuery) -> Result<List<R>, AdminError> {
    let after = page.after(Digest::from_hex)?;
    let mut rows = management.administration.directory.registrations(R::KIND, after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut rows, |(digest, _)| digest.to_hex());
    Ok(List { rows: rows.iter().map(|(digest, link)| R::from_stored(digest, link)).collect(), next })
}

async fn get_row<R: Registered>(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<Json<R>, AdminError> {
    let link = management.administration.directory.link(R::KIND, digest).await?;
    link.map(|link| Json(R::from_stored(&digest, &link))).ok_or(AdminError::NotFound)
}

/// Create or replace an identity key
#[utoipa::path(
    put, path = "/admin/v1/identity-keys", operation_id = "putIdentityKey", description = PUT,
    request_body(content = IdentityKeyRow, example = json!({ "key": "badge-4711", "shopper": "shopper-7", "channel": "RADIO" })),
    responses((status = 200, description = "The current row.", body = IdentityKeyRow), BadKey, TooLong)
)]
async fn put_key(
    State(management): State<Management>,
    body: RowBody<IdentityKeyRow>,
) -> Result<Json<IdentityKeyRow>, AdminError> {
    register(&management, body).await.map(Json)
}

/// Create or replace a recognition token
#[utoipa::path(
    put, path = "/admin/v1/recognition-tokens", operation_id = "putRecognitionToken", description = PUT,
    request_body(content = RecognitionTokenRow, example = json!({ "shopper": "shopper-7", "device": "phone-7" })),
    responses((status = 200, description = "The current row.", body = RecognitionTokenRow), BadToken, TooLong)
)]
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
