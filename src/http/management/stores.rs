//! `/admin/v1/stores`: reads, changes and deletes stores.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};

use super::lists::{List, PageQuery, parse_text_cursor, text_cursor};
use super::rows::{Id, PathId, RowBody};
use super::{AdminError, Management};
use crate::directory::{Change, StoreRow, store};
use crate::domain::ids::StoreId;

pub(super) fn routes() -> Router<Management> {
    Router::new()
        .route("/admin/v1/stores", get(list))
        .route("/admin/v1/stores/{id}", get(get_row).put(put).delete(delete))
}

async fn list(State(management): State<Management>, page: PageQuery) -> Result<List<StoreRow>, AdminError> {
    let after = page.after(|cursor| PathId::parse(&parse_text_cursor(cursor)?).ok())?;
    let mut stores = management.administration.directory.stores(after, page.limit_plus_one()).await?;
    let next = page.truncate(&mut stores, |store| text_cursor(store.id.as_str()));
    Ok(List { name: "stores", rows: stores.iter().map(StoreRow::from).collect(), next })
}

async fn get_row(State(management): State<Management>, Id(id): Id<StoreId>) -> Result<Json<StoreRow>, AdminError> {
    // Without the cache that scans use, which may be two seconds old.
    let found = management.administration.directory.store_uncached(&id).await?;
    found.as_ref().map(|store| Json(StoreRow::from(store))).ok_or(AdminError::NotFound)
}

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

async fn delete(State(management): State<Management>, Id(id): Id<StoreId>) -> Result<StatusCode, AdminError> {
    management.administration.change(Change::DeleteStore(id)).await?;
    Ok(StatusCode::NO_CONTENT)
}
