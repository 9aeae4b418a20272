//! `/admin/v1/customers`: the links from customers of OpenID providers to shoppers. A body names a customer by issuer
//! and subject; only their digest is kept and shown.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use super::lists::{List, PageQuery};
use super::rows::{Id, RowBody};
use super::{AdminError, Management};
use crate::digest::Digest;
use crate::directory::{Change, CustomerRow, customer};

pub(super) fn routes() -> Router<Management> {
    Router::new()
        .route("/admin/v1/customers", get(list).put(put))
        .route("/admin/v1/customers/{digest}", get(get_row).delete(delete))
}

async fn list(State(management): State<Management>, page: PageQuery) -> Result<List<CustomerRow>, AdminError> {
    let after = page.after(Digest::from_hex)?;
    let mut rows = management.administration.directory.customers(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut rows, |(digest, _)| digest.to_hex());
    let rows = rows.iter().map(|(digest, shopper)| CustomerRow::from_stored(digest, shopper)).collect();
    Ok(List { name: "customers", rows, next })
}

async fn get_row(
    State(management): State<Management>,
    Id(digest): Id<Digest>,
) -> Result<Json<CustomerRow>, AdminError> {
    let shopper = management.administration.directory.customer(digest).await?;
    shopper.map(|shopper| Json(CustomerRow::from_stored(&digest, &shopper))).ok_or(AdminError::NotFound)
}

async fn put(
    State(management): State<Management>,
    body: RowBody<CustomerRow>,
) -> Result<Json<CustomerRow>, AdminError> {
    let hash_key = management.administration.directory.hash_key();
    let (digest, shopper) = body.checked(|row| customer(row, hash_key))?;
    let row = CustomerRow::from_stored(&digest, &shopper);
    management.administration.change(Change::LinkCustomer(digest, shopper)).await?;
    Ok(Json(row))
}

async fn delete(State(management): State<Management>, Id(digest): Id<Digest>) -> Result<StatusCode, AdminError> {
    management.administration.unlink(digest).await?;
    Ok(StatusCode::NO_CONTENT)
}
