//! `/admin/v1/shoppers`: reads, changes, flags and erases shoppers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery, parse_text_cursor, text_cursor};
use super::rows::{BAD_ID, BadId, Id, IdParameter, PUT, PathId, RowBody, bad_row};
use super::{AdminError, Management, NotFound, TooLong};
use crate::directory::{Change, ShopperRow, shopper};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Account;
use crate::http::openapi::{Refusals, refusals};

type Shoppers = List<ShopperRow>;

impl Listed for ShopperRow {
    const NAME: &'static str = "shoppers";
}

refusals! {
    BadShopper = Refusals::default().such_as([bad_row(BAD_ID), bad_row("type: is missing")]);
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default()
        .routes(routes!(list))
        .routes(routes!(get_row, put, delete))
        .routes(routes!(flag))
        .routes(routes!(unflag))
}

/// List shoppers, ordered by id
#[utoipa::path(
    get, path = "/admin/v1/shoppers", operation_id = "listShoppers", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Shoppers)), BadPage)
)]
async fn list(State(management): State<Management>, page: PageQuery) -> Result<Shoppers, AdminError> {
    let after = page.after(|cursor| PathId::parse(&parse_text_cursor(cursor)?).ok())?;
    let mut profiles = management.administration.directory.shoppers(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut profiles, |profile| text_cursor(profile.shopper.visitor.id.as_str()));
    Ok(List { rows: profiles.iter().map(ShopperRow::from).collect(), next })
}

/// Get a shopper
#[utoipa::path(
    get, path = "/admin/v1/shoppers/{id}", operation_id = "getShopper", params(IdParameter),
    responses((status = 200, description = "The current row.", body = ShopperRow), BadId, NotFound)
)]
async fn get_row(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<Json<ShopperRow>, AdminError> {
    row(&management, &id).await
}

/// Create or replace a shopper
#[utoipa::path(
    put, path = "/admin/v1/shoppers/{id}", operation_id = "putShopper", description = PUT, params(IdParameter),
    request_body(content = ShopperRow, example = json!({
        "type": "SHOPPER", "paymentMethod": { "lastMonth": "2029-06" }, "devices": ["phone-7"],
    })),
    responses((status = 200, description = "The current row.", body = ShopperRow), BadShopper, TooLong)
)]
async fn put(
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
async fn delete(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<StatusCode, AdminError> {
    management.administration.erase(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn set_account(management: &Management, id: VisitorId, account: Account) -> Result<Json<ShopperRow>, AdminError> {
    management.administration.change(Change::SetAccount(id.clone(), account)).await?;
    row(management, &id).await
}

async fn row(management: &Management, id: &VisitorId) -> Result<Json<ShopperRow>, AdminError> {
    let found = management.administration.directory.profile(id).await?;
    found.as_ref().map(|profile| Json(ShopperRow::from(profile))).ok_or(AdminError::NotFound)
}
