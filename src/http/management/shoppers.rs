//! `/admin/v1/shoppers`: reads, changes, flags and erases shoppers.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::lists::{List, PageQuery, parse_text_cursor, text_cursor};
use super::rows::{Id, PathId, RowBody};
use super::{AdminError, Management};
use crate::directory::{Change, ShopperRow, shopper};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Account;

pub(super) fn routes() -> Router<Management> {
    Router::new()
        .route("/admin/v1/shoppers", get(list))
        .route("/admin/v1/shoppers/{id}", get(get_row).put(put).delete(delete))
        .route("/admin/v1/shoppers/{id}/flag", post(flag))
        .route("/admin/v1/shoppers/{id}/unflag", post(unflag))
}

async fn list(State(management): State<Management>, page: PageQuery) -> Result<List<ShopperRow>, AdminError> {
    let after = page.after(|cursor| PathId::parse(&parse_text_cursor(cursor)?).ok())?;
    let mut profiles = management.administration.directory.shoppers(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut profiles, |profile| text_cursor(profile.shopper.visitor.id.as_str()));
    Ok(List { name: "shoppers", rows: profiles.iter().map(ShopperRow::from).collect(), next })
}

async fn get_row(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<Json<ShopperRow>, AdminError> {
    row(&management, &id).await
}

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

async fn flag(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<Json<ShopperRow>, AdminError> {
    set_account(&management, id, Account::Flagged).await
}

async fn unflag(State(management): State<Management>, Id(id): Id<VisitorId>) -> Result<Json<ShopperRow>, AdminError> {
    set_account(&management, id, Account::Active).await
}

/// Erases a shopper. Never answers 404: the shopper may be missing because an earlier call failed half way, and this
/// one completes it.
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
