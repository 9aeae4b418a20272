//! `/demo`: a page that shows the connector at work, in a demo only. The page plays the app and the gate against the
//! real endpoints. This module serves the page and what it needs besides: the shoppers and stores, signing in as any
//! shopper, flagging a shopper, and the switch for a backend that is down.

mod guard;
pub(crate) mod issuer;
mod page;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::AdminError;
use crate::admin::Administration;
use crate::demo::issuer::{DemoIssuer, LIFETIME};
use crate::directory::{Change, Fault, Faults, ShopperRow, StoreRow};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Account;
use crate::http::document::Document;

/// The page shows at most this many shoppers and stores.
const MAX_ROWS: usize = 100;

/// The state of the demo page.
#[derive(Clone, Debug)]
pub(crate) struct Demo {
    /// The shoppers and stores.
    pub administration: Administration,
    /// The identity provider that shoppers sign in at.
    pub issuer: Arc<DemoIssuer>,
    /// The switch for a backend that is down.
    pub faults: Faults,
    /// The key that the page must send as `X-Demo-Key`; `None` on loopback.
    pub key: Option<SecretString>,
}

#[derive(Deserialize)]
struct SignIn {
    shopper: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignedIn<'a> {
    token_type: &'static str,
    access_token: &'a str,
    /// In seconds.
    expires_in: i64,
}

/// Whether the look-ups of scans fail.
#[derive(Deserialize, Serialize)]
struct Backend {
    down: bool,
}

pub(crate) fn routes(demo: Demo) -> Router {
    let key = demo.key.clone();
    let endpoints = Router::new()
        .route("/demo/sign-in", post(sign_in))
        .route("/demo/shoppers", get(shoppers))
        .route("/demo/shoppers/{id}/flag", post(flag))
        .route("/demo/shoppers/{id}/unflag", post(unflag))
        .route("/demo/stores", get(stores))
        .route("/demo/backend", get(backend).put(set_backend))
        .route_layer(from_fn_with_state(key.clone(), guard::require_key));
    // The connector fetches the last two from itself, without the key.
    let open = Router::new()
        .route("/", get(async || Redirect::temporary(page::PAGE)))
        .route("/demo/.well-known/openid-configuration", get(discovery))
        .route("/demo/keys", get(key_set));
    let all = page::routes().merge(open.merge(endpoints).with_state(demo));
    all.route_layer(from_fn_with_state(key.is_some(), guard::require_own_page))
}

async fn discovery(State(demo): State<Demo>) -> Json<Value> {
    Json(demo.issuer.discovery())
}

async fn key_set(State(demo): State<Demo>) -> Json<Value> {
    Json(demo.issuer.key_set())
}

async fn sign_in(State(demo): State<Demo>, document: Document) -> Result<Response, AdminError> {
    let SignIn { shopper } = document.read()?;
    let shopper = find_shopper(&demo, &shopper).await?;
    // Links the provider's customer to the shopper.
    let customer = demo.issuer.customer(&shopper).ok_or(AdminError::NotFound)?;
    let customer = demo.administration.directory.hash_key().customer(&customer);
    demo.administration.change(Change::LinkCustomer(customer, shopper.clone())).await?;
    let token = demo.issuer.token_for(&shopper, demo.administration.clock.now());
    let token = token.map_err(|error| AdminError::Internal { reason: "cryptography", cause: error.to_string() })?;
    let access_token = token.expose_secret();
    let expires_in = LIFETIME.num_seconds();
    Ok(Json(SignedIn { token_type: "Bearer", access_token, expires_in }).into_response())
}

async fn shoppers(State(demo): State<Demo>) -> Result<Json<Vec<ShopperRow>>, AdminError> {
    let profiles = demo.administration.directory.shoppers(None, MAX_ROWS).await?;
    Ok(Json(profiles.iter().map(ShopperRow::from).collect()))
}

async fn stores(State(demo): State<Demo>) -> Result<Json<Vec<StoreRow>>, AdminError> {
    let stores = demo.administration.directory.stores(None, MAX_ROWS).await?;
    Ok(Json(stores.iter().map(StoreRow::from).collect()))
}

async fn backend(State(demo): State<Demo>) -> Json<Backend> {
    Json(Backend { down: demo.faults.current().is_some() })
}

/// While the backend is down, the look-ups of scans fail and gates get a 500. The page's own requests still succeed.
async fn set_backend(State(demo): State<Demo>, document: Document) -> Result<Json<Backend>, AdminError> {
    let backend: Backend = document.read()?;
    demo.faults.set(backend.down.then_some(Fault::Fail));
    Ok(Json(backend))
}

/// The shopper's id in a path. It may be invalid UTF-8.
type PathId = Result<Path<String>, PathRejection>;

async fn flag(State(demo): State<Demo>, id: PathId) -> Result<Json<ShopperRow>, AdminError> {
    set_account(&demo, id, Account::Flagged).await
}

async fn unflag(State(demo): State<Demo>, id: PathId) -> Result<Json<ShopperRow>, AdminError> {
    set_account(&demo, id, Account::Active).await
}

async fn set_account(demo: &Demo, id: PathId, account: Account) -> Result<Json<ShopperRow>, AdminError> {
    let id = id.map(|Path(id)| id).unwrap_or_default(); // no shopper has an empty id
    let id = find_shopper(demo, &id).await?;
    demo.administration.change(Change::SetAccount(id.clone(), account)).await?;
    let profile = demo.administration.directory.profile(&id).await?.ok_or(AdminError::NotFound)?;
    Ok(Json(ShopperRow::from(&profile)))
}

async fn find_shopper(demo: &Demo, id: &str) -> Result<VisitorId, AdminError> {
    let id = VisitorId::parse(id).ok().filter(|id| !id.as_str().contains('\0'));
    let id = id.ok_or_else(|| AdminError::BadRow("shopper: must be the id of a shopper".into()))?;
    let profile = demo.administration.directory.profile(&id).await?;
    profile.map(|_| id).ok_or_else(|| AdminError::BadRow("shopper: unknown shopper id".into()))
}
