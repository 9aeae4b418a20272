//! `/admin/v1/customers`: the links from customers of OpenID providers to shoppers. A body names a customer by issuer
//! and subject; only their digest is kept and shown.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery};
use super::rows::{BadDigest, DigestParameter, Id, PUT, RowBody, bad_row};
use super::{AdminError, Management, NotFound, TooLong};
use crate::digest::Digest;
use crate::directory::{Change, CustomerRow, customer};
use crate::http::openapi::{Refusals, refusals};

type Customers = List<CustomerRow>;

impl Listed for CustomerRow {
    const NAME: &'static str = "customers";
}

refusals! {
    BadCustomer = Refusals::default().such_as([bad_row("shopper: no such shopper")]);
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(list, put)).routes(routes!(get_row, delete))
}

/// List customers, ordered by digest
#[utoipa::path(
    get, path = "/admin/v1/customers", operation_id = "listCustomers", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Customers)), BadPage)
)]
async fn list(State(management): State<Management>, page: PageQuery) -> Result<Customers, AdminError> {
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
async fn get_row(
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

/// Delete a customer of an OpenID provider
#[utoipa::path(
    delete, path = "/admin/v1/customers/{digest}", operation_id = "deleteCustomer", params(DigestParameter),
    responses((status = 204, description = "Deleted."), BadDigest, NotFound)
)]
async fn delete(State(management): State<Management>, Id(digest): Id<Digest>) -> Result<StatusCode, AdminError> {
    management.administration.unlink(digest).await?;
    Ok(StatusCode::NO_CONTENT)
}
