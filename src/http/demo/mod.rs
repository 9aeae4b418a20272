//! `/demo`: a page to see all of it with, in a demo only. It plays the app and the gate against the real endpoints; what it needs besides
//! is here: who there is, signing in as any of them, and holding an account back.
//!
//! A demo is on loopback, where any web page that is open in the same browser can send requests too: those are turned away.

mod page;

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::document::Document;
use super::error::ApiError;
use crate::administration::Administration;
use crate::demo_issuer::{DemoIssuer, LIFETIME};
use crate::directory::{Change, ShopperRow};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Account;

/// As many shoppers and stores as a page can show.
const MOST: usize = 100;

/// What the page needs.
#[derive(Clone, Debug)]
pub struct Demo {
    /// Who is known.
    pub administration: Administration,
    /// Who vouches for them.
    pub issuer: Arc<DemoIssuer>,
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

pub(super) fn routes(demo: Demo) -> Router {
    let asked = Router::new()
        .route("/demo/.well-known/openid-configuration", get(discovery))
        .route("/demo/keys", get(key_set))
        .route("/demo/sign-in", post(sign_in))
        .route("/demo/shoppers", get(shoppers))
        .route("/demo/shoppers/{id}/flag", post(flag))
        .route("/demo/shoppers/{id}/unflag", post(unflag))
        .route("/demo/stores", get(stores))
        .with_state(demo);
    page::routes().merge(asked).route_layer(from_fn(from_here))
}

/// Lets in whoever asks this address under its own name, and no other page's script.
async fn from_here(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &str| origin.strip_prefix("http://") == Some(host);
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().is_ok_and(is_own));
    if is_loopback(host) && origin.unwrap_or(true) && !is_cross_site(headers) {
        next.run(request).await
    } else {
        ApiError::forbidden("not_from_here", "The demo answers its own page only").into_response()
    }
}

/// Names that a stranger cannot make point here (DNS rebinding).
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(name.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

async fn discovery(State(demo): State<Demo>) -> Json<Value> {
    Json(demo.issuer.discovery())
}

async fn key_set(State(demo): State<Demo>) -> Json<Value> {
    Json(demo.issuer.key_set())
}

async fn sign_in(State(demo): State<Demo>, document: Document) -> Result<Response, ApiError> {
    let SignIn { shopper } = document.read()?;
    let shopper = known(&demo, &shopper).await?;
    // Whoever they are to the provider is this shopper from now on.
    let customer = demo.issuer.customer(&shopper).ok_or(ApiError::NotFound)?;
    let customer = demo.administration.directory.hash_key().customer(&customer);
    demo.administration.change(Change::LinkCustomer(customer, shopper.clone())).await?;
    let token = demo.issuer.vouch(&shopper, demo.administration.clock.now());
    let token = token.map_err(|error| ApiError::Internal { reason: "cryptography", cause: error.to_string() })?;
    let access_token = token.expose_secret();
    let expires_in = LIFETIME.num_seconds();
    Ok(Json(SignedIn { token_type: "Bearer", access_token, expires_in }).into_response())
}

async fn shoppers(State(demo): State<Demo>) -> Result<Json<Vec<ShopperRow>>, ApiError> {
    let profiles = demo.administration.directory.shoppers(None, MOST).await?;
    Ok(Json(profiles.iter().map(ShopperRow::from).collect()))
}

async fn stores(State(demo): State<Demo>) -> Result<Json<Vec<Value>>, ApiError> {
    let stores = demo.administration.directory.stores(None, MOST).await?;
    Ok(Json(stores.iter().map(|store| json!({ "id": store.id.as_str() })).collect()))
}

/// What stands in a path for a shopper, which may be no text.
type Named = Result<Path<String>, PathRejection>;

async fn flag(State(demo): State<Demo>, id: Named) -> Result<Json<ShopperRow>, ApiError> {
    set_account(&demo, id, Account::Flagged).await
}

async fn unflag(State(demo): State<Demo>, id: Named) -> Result<Json<ShopperRow>, ApiError> {
    set_account(&demo, id, Account::Active).await
}

async fn set_account(demo: &Demo, id: Named, account: Account) -> Result<Json<ShopperRow>, ApiError> {
    let id = id.map(|Path(id)| id).unwrap_or_default(); // nobody's
    let id = known(demo, &id).await?;
    demo.administration.change(Change::SetAccount(id.clone(), account)).await?;
    let profile = demo.administration.directory.profile(&id).await?.ok_or(ApiError::NotFound)?;
    Ok(Json(ShopperRow::from(&profile)))
}

async fn known(demo: &Demo, id: &str) -> Result<VisitorId, ApiError> {
    let id = VisitorId::parse(id).ok().filter(|id| !id.as_str().contains('\0'));
    let id = id.ok_or_else(|| ApiError::BadRow("shopper: must be the id of a shopper".to_owned()))?;
    let profile = demo.administration.directory.profile(&id).await?;
    profile.map(|_| id).ok_or_else(|| ApiError::BadRow("shopper: names nobody among the shoppers".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for own in ["127.0.0.1:8080", "127.9.9.9", "localhost:8080", "LOCALHOST", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in
            ["", "demo.example.com:8080", "127.0.0.1.example.com", "localhost.example.com:80", "192.0.2.1:8080"]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
