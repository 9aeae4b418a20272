//! `/admin/v1/stores`, `/shoppers`, `/identity-keys`, `/recognition-tokens` and `/customers`: the rows of the
//! directory.
//!
//! - A shopper can also be flagged and erased.
//! - A key or token is sent in a body, never in a URL, since proxies log URLs. Only its digest is kept and shown. A
//!   token that is made here is shown once, in the answer.
//! - A customer of an OpenID provider is linked to a shopper. A body names the customer by issuer and subject; only
//!   their digest is kept and shown.
//!
//! Problems of an id or a row are reported with their position. Values are never quoted, since one may be a key.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::admin::lists::{BadPage, List, Listed, PageQuery, cursor, list, parse_cursor};
use crate::admin::{AdminError, Management, NotFound, TooLong};
use crate::digest::{Digest, HashKey, new_secret};
use crate::directory::{
    Change, CustomerRow, IdentityKeyRow, Kind, Link, Problem, RecognitionTokenRow, ShopperRow, StoreRow, customer,
    identity_key, recognition_token, shopper, store,
};
use crate::domain::ids::{StoreId, TextIdError, VisitorId};
use crate::domain::visitor::Account;
use crate::http::document::{Document, read_with_problems};
use crate::http::members::Members;
use crate::http::openapi::{Refusals, refusals};

pub(crate) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default()
        .routes(routes!(list_stores))
        .routes(routes!(get_store, put_store, delete_store))
        .routes(routes!(list_shoppers))
        .routes(routes!(get_shopper, put_shopper, delete_shopper))
        .routes(routes!(flag))
        .routes(routes!(unflag))
        .routes(routes!(list_keys, put_key))
        .routes(routes!(get_key, delete_key))
        .routes(routes!(revoke_key))
        .routes(routes!(list_tokens, put_token))
        .routes(routes!(get_token, delete_token))
        .routes(routes!(revoke_token))
        .routes(routes!(list_customers, put_customer))
        .routes(routes!(get_customer, delete_customer))
}

list!(Stores of StoreRow as "stores");

refusals! {
    BadStore = Refusals::default().such_as([bad_row(BAD_ID), bad_row("takesCash: must be true or false")]);
}

/// List stores, ordered by id
#[utoipa::path(
    get, path = "/admin/v1/stores", operation_id = "listStores", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Stores)), BadPage)
)]
async fn list_stores(State(management): State<Management>, page: PageQuery) -> Result<Stores, AdminError> {
    let after = page.after(parse_id_cursor)?;
    let mut stores = management.administration.directory.stores(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut stores, |store| cursor(store.id.as_str()));
    Ok(List { rows: stores.iter().map(StoreRow::from).collect(), next })
}

/// Get a store
#[utoipa::path(
    get, path = "/admin/v1/stores/{id}", operation_id = "getStore", params(IdParameter),
    responses((status = 200, description = "The current row.", body = StoreRow), BadId, NotFound)
)]
async fn get_store(State(management): State<Management>, Id(id): Id<StoreId>) -> Result<Json<StoreRow>, AdminError> {
    // Without the cache that scans use, which may be two seconds old.
    let found = management.administration.directory.store_uncached(&id).await?;
    found.as_ref().map(|store| Json(StoreRow::from(store))).ok_or(AdminError::NotFound)
}

/// Create or replace a store
#[utoipa::path(
    put, path = "/admin/v1/stores/{id}", operation_id = "putStore", description = PUT, params(IdParameter),
    request_body(content = StoreRow, example = json!({ "takesCash": true, "defaultGateDecision": "closed" })),
    responses((status = 200, description = "The current row.", body = StoreRow), BadStore, TooLong)
)]
async fn put_store(
    State(management): State<Management>,
    Id(id): Id<StoreId>,
    body: RowBody<StoreRow>,
) -> Result<Json<StoreRow>, AdminError> {
    let store = body.with_path_id(id.as_str(), |row| &mut row.id).checked(store)?;
    let row = StoreRow::from(&store);
    management.administration.change(Change::PutStore(store)).await?;
    Ok(Json(row))
}

/// Delete a store
#[utoipa::path(
    delete, path = "/admin/v1/stores/{id}", operation_id = "deleteStore", params(IdParameter),
    responses((status = 204, description = "Deleted."), BadId, NotFound)
)]
async fn delete_store(State(management): State<Management>, Id(id): Id<StoreId>) -> Result<StatusCode, AdminError> {
    management.administration.change(Change::DeleteStore(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

list!(Shoppers of ShopperRow as "shoppers");

refusals! {
    BadShopper = Refusals::default().such_as([bad_row(BAD_ID), bad_row("type: is missing")]);
}

/// List shoppers, ordered by id
#[utoipa::path(
    get, path = "/admin/v1/shoppers", operation_id = "listShoppers", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Shoppers)), BadPage)
)]
async fn list_shoppers(State(management): State<Management>, page: PageQuery) -> Result<Shoppers, AdminError> {
    let after = page.after(parse_id_cursor)?;
    let mut profiles = management.administration.directory.shoppers(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut profiles, |profile| cursor(profile.shopper.visitor.id.as_str()));
    Ok(List { rows: profiles.iter().map(ShopperRow::from).collect(), next })
}

/// Get a shopper
#[utoipa::path(
    get, path = "/admin/v1/shoppers/{id}", operation_id = "getShopper", params(IdParameter),
    responses((status = 200, description = "The current row.", body = ShopperRow), BadId, NotFound)
)]
async fn get_shopper(
    State(management): State<Management>,
    Id(id): Id<VisitorId>,
) -> Result<Json<ShopperRow>, AdminError> {
    shopper_row(&management, &id).await
}

/// Create or replace a shopper
#[utoipa::path(
    put, path = "/admin/v1/shoppers/{id}", operation_id = "putShopper", description = PUT, params(IdParameter),
    request_body(content = ShopperRow, example = json!({
        "type": "SHOPPER", "paymentMethod": { "lastMonth": "2029-06" }, "devices": ["phone-7"],
    })),
    responses((status = 200, description = "The current row.", body = ShopperRow), BadShopper, TooLong)
)]
async fn put_shopper(
    State(management): State<Management>,
    Id(id): Id<VisitorId>,
    body: RowBody<ShopperRow>,
) -> Result<Json<ShopperRow>, AdminError> {
    let profile = body.with_path_id(id.as_str(), |row| &mut row.id).checked(shopper)?;
    let row = ShopperRow::from(&profile);
    management.administration.change(Change::PutShopper(profile)).await?;
    Ok(Json(row))
}

/// Flag a shopper's account
#[utoipa::path(
    post, path = "/admin/v1/shoppers/{id}/flag", operation_id = "flagShopper", params(IdParameter),
    responses((status = 200, description = "The current row.", body = ShopperRow), BadId, NotFound)
)]
async fn flag(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<Json<ShopperRow>, AdminError> {
    set_account(&management, id, Account::Flagged).await
}

/// Unflag a shopper's account
#[utoipa::path(
    post, path = "/admin/v1/shoppers/{id}/unflag", operation_id = "unflagShopper", params(IdParameter),
    responses((status = 200, description = "The current row.", body = ShopperRow), BadId, NotFound)
)]
async fn unflag(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<Json<ShopperRow>, AdminError> {
    set_account(&management, id, Account::Active).await
}

/// Delete a shopper
#[utoipa::path(
    delete, path = "/admin/v1/shoppers/{id}", operation_id = "deleteShopper", params(IdParameter),
    description = "Erases the shopper: deletes keys, tokens, devices, customers and carts, and replaces the id in decisions, \
        sessions and the audit with a pseudonym. The answer takes 3 s, plus 2 s with PostgreSQL, or plus `directory.cache_for` \
        if that is longer. If a call fails, repeat it: that completes the erasure. For this reason an unknown shopper gets 204 \
        too.",
    responses((status = 204, description = "Deleted."), BadId)
)]
async fn delete_shopper(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<StatusCode, AdminError> {
    management.administration.erase(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_account(management: &Management, id: VisitorId, account: Account) -> Result<Json<ShopperRow>, AdminError> {
    management.administration.change(Change::SetAccount(id.clone(), account)).await?;
    shopper_row(management, &id).await
}

async fn shopper_row(management: &Management, id: &VisitorId) -> Result<Json<ShopperRow>, AdminError> {
    let found = management.administration.directory.profile(id).await?;
    found.as_ref().map(|profile| Json(ShopperRow::from(profile))).ok_or(AdminError::NotFound)
}

/// The differences between identity keys and recognition tokens.
trait Registered: DeserializeOwned + Listed + Serialize + Send + 'static {
    const KIND: Kind;

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>>;
    fn from_stored(digest: &Digest, link: &Link) -> Self;
}

list!(IdentityKeys of IdentityKeyRow as "identityKeys");

impl Registered for IdentityKeyRow {
    const KIND: Kind = Kind::IdentityKey;

    fn check(&self, hash_key: &HashKey) -> Result<(Digest, Link), Vec<Problem>> {
        identity_key(self, hash_key)
    }

    fn from_stored(digest: &Digest, link: &Link) -> Self {
        Self::from_stored(digest, link)
    }
}

list!(RecognitionTokens of RecognitionTokenRow as "recognitionTokens");

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

/// List identity keys, ordered by digest
#[utoipa::path(
    get, path = "/admin/v1/identity-keys", operation_id = "listIdentityKeys", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(IdentityKeys)), BadPage)
)]
async fn list_keys(management: State<Management>, page: PageQuery) -> Result<IdentityKeys, AdminError> {
    list_registrations(management, page).await
}

/// Get an identity key
#[utoipa::path(
    get, path = "/admin/v1/identity-keys/{digest}", operation_id = "getIdentityKey", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = IdentityKeyRow), BadDigest, NotFound)
)]
async fn get_key(management: State<Management>, digest: Id<Digest>) -> Result<Json<IdentityKeyRow>, AdminError> {
    get_registration(management, digest).await
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
    delete_registration::<IdentityKeyRow>(management, digest).await
}

/// List recognition tokens, ordered by digest
#[utoipa::path(
    get, path = "/admin/v1/recognition-tokens", operation_id = "listRecognitionTokens", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(RecognitionTokens)), BadPage)
)]
async fn list_tokens(management: State<Management>, page: PageQuery) -> Result<RecognitionTokens, AdminError> {
    list_registrations(management, page).await
}

/// Get a recognition token
#[utoipa::path(
    get, path = "/admin/v1/recognition-tokens/{digest}", operation_id = "getRecognitionToken", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = RecognitionTokenRow), BadDigest, NotFound)
)]
async fn get_token(management: State<Management>, digest: Id<Digest>) -> Result<Json<RecognitionTokenRow>, AdminError> {
    get_registration(management, digest).await
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
    delete_registration::<RecognitionTokenRow>(management, digest).await
}

async fn list_registrations<R: Registered>(
    State(management): State<Management>,
    page: PageQuery,
) -> Result<List<R>, AdminError> {
    let after = page.after(Digest::from_hex)?;
    let mut rows = management.administration.directory.registrations(R::KIND, after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut rows, |(digest, _)| digest.to_hex());
    Ok(List { rows: rows.iter().map(|(digest, link)| R::from_stored(digest, link)).collect(), next })
}

async fn get_registration<R: Registered>(
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
    get_registration(State(management), Id(digest)).await
}

async fn delete_registration<R: Registered>(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<StatusCode, AdminError> {
    management.administration.change(Change::DeleteRegistration(R::KIND, digest)).await?;
    Ok(StatusCode::NO_CONTENT)
}

list!(Customers of CustomerRow as "customers");

refusals! {
    BadCustomer = Refusals::default().such_as([bad_row("shopper: no such shopper")]);
}

/// List customers, ordered by digest
#[utoipa::path(
    get, path = "/admin/v1/customers", operation_id = "listCustomers", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Customers)), BadPage)
)]
async fn list_customers(State(management): State<Management>, page: PageQuery) -> Result<Customers, AdminError> {
    let after = page.after(Digest::from_hex)?;
    let mut rows = management.administration.directory.customers(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut rows, |(digest, _)| digest.to_hex());
    let rows = rows.iter().map(|(digest, shopper)| CustomerRow::from_stored(digest, shopper)).collect();
    Ok(List { rows, next })
}

/// Get a customer of an OpenID provider
#[utoipa::path(
    get, path = "/admin/v1/customers/{digest}", operation_id = "getCustomer", params(DigestParameter),
    responses((status = 200, description = "The current row.", body = CustomerRow), BadDigest, NotFound)
)]
async fn get_customer(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<Json<CustomerRow>, AdminError> {
    let shopper = management.administration.directory.customer(digest).await?;
    shopper.map(|shopper| Json(CustomerRow::from_stored(&digest, &shopper))).ok_or(AdminError::NotFound)
}

/// Create or replace a customer of an OpenID provider
#[utoipa::path(
    put, path = "/admin/v1/customers", operation_id = "putCustomer", description = PUT,
    request_body(content = CustomerRow, example = json!({
        "issuer": "https://login.example.com/tenant/v2.0", "subject": "248289761001", "shopper": "shopper-7",
    })),
    responses((status = 200, description = "The current row.", body = CustomerRow), BadCustomer, TooLong)
)]
async fn put_customer(
    State(management): State<Management>,
    body: RowBody<CustomerRow>,
) -> Result<Json<CustomerRow>, AdminError> {
    let hash_key = management.administration.directory.hash_key();
    let (digest, shopper) = body.checked(|row| customer(row, hash_key))?;
    let row = CustomerRow::from_stored(&digest, &shopper);
    management.administration.change(Change::LinkCustomer(digest, shopper)).await?;
    Ok(Json(row))
}

/// Delete a customer of an OpenID provider
#[utoipa::path(
    delete, path = "/admin/v1/customers/{digest}", operation_id = "deleteCustomer", params(DigestParameter),
    responses((status = 204, description = "Deleted."), BadDigest, NotFound)
)]
async fn delete_customer(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<StatusCode, AdminError> {
    management.administration.unlink(digest).await?;
    Ok(StatusCode::NO_CONTENT)
}

const BAD_DIGEST: &str = "digest: must be 64 hexadecimal digits, as in the lists";

/// An id in a path.
trait PathId: Sized {
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

fn parse_id_cursor<T: PathId>(cursor: &str) -> Option<T> {
    T::parse(std::str::from_utf8(&parse_cursor(cursor)?).ok()?).ok()
}

/// Describes the id in a path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only a description: `Id` extracts it")]
struct IdParameter {
    /// Percent-encoded, without U+0000.
    #[param(min_length = 1, max_length = 255)]
    id: String,
}

/// Describes the digest in a path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "as above")]
struct DigestParameter {
    /// The digest, as in the list.
    #[param(min_length = 1, max_length = 64, pattern = "^[0-9a-f]{64}$")]
    digest: String,
}

/// The description of every PUT of a row.
const PUT: &str = "Unknown members are refused, so that a misspelt one is noticed. The message lists all \
                              problems and never quotes a value.";

/// An example of a refusal of a row or of its id.
fn bad_row(message: &'static str) -> AdminError {
    AdminError::BadRow(message.into())
}

const BAD_ID: &str = "id: is longer than 255 characters";

refusals! {
    BadId = Refusals::default().such_as([bad_row(BAD_ID)]);
    BadDigest = Refusals::default().such_as([bad_row(BAD_DIGEST)]);
}

/// Extracts the id in the path.
struct Id<T>(T);

impl<T: PathId, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let text = Path::<String>::from_request_parts(parts, state).await;
        let Path(text) = text.map_err(|_| AdminError::BadRow("id: must be percent-encoded UTF-8".into()))?;
        T::parse(&text).map(Self).map_err(|problem| AdminError::BadRow(problem.into()))
    }
}

/// Extracts the row in the body, with its problems. The row may contain a key.
struct RowBody<T> {
    row: T,
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
    fn with_path_id(mut self, path: &str, own: impl FnOnce(&mut T) -> &mut String) -> Self {
        let own = own(&mut self.row);
        if self.has_id && own != path && !self.problems.iter().any(|problem| problem.path == "id") {
            self.problems.push(Problem::new("id", "must be the id in the path, or absent"));
        }
        path.clone_into(own);
        self
    }

    /// Checks the row. Returns the checked value, or a refusal with all problems.
    fn checked<V>(self, check: impl FnOnce(&T) -> Result<V, Vec<Problem>>) -> Result<V, AdminError> {
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
