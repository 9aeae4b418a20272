//! `/admin/v1/stores`: reads, changes and deletes stores.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::lists::{BadPage, List, Listed, PageQuery, parse_text_cursor, text_cursor};
use super::rows::{BAD_ID, BadId, Id, IdParameter, PUT, PathId, RowBody, bad_row};
use super::{AdminError, Management, NotFound, TooLong};
use crate::directory::{Change, StoreRow, store};
use crate::domain::ids::StoreId;
use crate::http::openapi::{Refusals, refusals};

type Stores = List<StoreRow>;

impl Listed for StoreRow {
    const NAME: &'static str = "stores";
}

refusals! {
    BadStore = Refusals::default().such_as([bad_row(BAD_ID), bad_row("takesCash: must be true or false")]);
}

pub(super) fn routes() -> OpenApiRouter<Management> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(get_row, put, delete))
}

/// List stores, ordered by id
#[utoipa::path(
    get, path = "/admin/v1/stores", operation_id = "listStores", params(PageQuery),
    responses((status = 200, description = "A page of rows.", body = inline(Stores)), BadPage)
)]
async fn list(State(management): State<Management>, page: PageQuery) -> Result<Stores, AdminError> {
    let after = page.after(|cursor| PathId::parse(&parse_text_cursor(cursor)?).ok())?;
    let mut stores = management.administration.directory.stores(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut stores, |store| text_cursor(store.id.as_str()));
    Ok(List { rows: stores.iter().map(StoreRow::from).collect(), next })
}

/// Get a store
#[utoipa::path(
    get, path = "/admin/v1/stores/{id}", operation_id = "getStore", params(IdParameter),
    responses((status = 200, description = "The current row.", body = StoreRow), BadId, NotFound)
)]
async fn get_row(State(management): State<Management>, Id(id): Id<StoreId>) -> Result<Json<StoreRow>, AdminError> {
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
async fn put(
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
async fn delete(State(management): State<Management>, Id(id): Id<StoreId>) -> Result<StatusCode, AdminError> {
    management.administration.change(Change::DeleteStore(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
