//! `/demo`: a page that shows the connector at work, in a demo only. The page plays the app and the gate against the
//! real endpoints. This module serves the page and what it needs besides: the shoppers and stores, signing in as any
//! shopper, flagging a shopper, and the switch for a backend that is down.
//!
//! Every web page that is open in the user's browser can send requests to a demo on loopback, so requests of other
//! pages are refused. A demo on an address other than loopback (`--publish`) also needs a key, since signing in takes no
//! password.

pub(crate) mod issuer;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use subtle::ConstantTimeEq as _;

use crate::admin::{AdminError, Administration};
use crate::demo::issuer::{DemoIssuer, LIFETIME};
use crate::directory::{Change, Fault, Faults, ShopperRow, StoreRow};
use crate::domain::ids::VisitorId;
use crate::domain::visitor::Account;
use crate::http::document::Document;
use crate::http::error::Refused;
use crate::http::page_file;
use crate::outgoing;

/// The page shows at most this many shoppers and stores.
const MAX_ROWS: usize = 100;

/// The header that has the key of a published demo.
const KEY: &str = "x-demo-key";

/// The page's path.
const PAGE: &str = "/demo";

/// The browser loads from this server only, runs no inline script, and shows the page in no frame. A QR code is a blob
/// that the script has fetched.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the folder `demo/`: path, content type, text.
const FILES: [(&str, &str, &str); 8] = [
    (PAGE, "text/html; charset=utf-8", include_str!("../../demo/index.html")),
    ("/demo/icon.svg", "image/svg+xml", include_str!("../../demo/icon.svg")),
    ("/demo/style.css", "text/css; charset=utf-8", include_str!("../../demo/style.css")),
    ("/demo/script.js", JAVASCRIPT, include_str!("../../demo/script.js")),
    ("/demo/app.js", JAVASCRIPT, include_str!("../../demo/app.js")),
    ("/demo/connector.js", JAVASCRIPT, include_str!("../../demo/connector.js")),
    ("/demo/gate.js", JAVASCRIPT, include_str!("../../demo/gate.js")),
    ("/demo/log.js", JAVASCRIPT, include_str!("../../demo/log.js")),
];

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
        .route_layer(from_fn_with_state(key.clone(), require_key));
    // The connector fetches the last two from itself, without the key.
    let open = Router::new()
        .route("/", get(async || Redirect::temporary(PAGE)))
        .route("/demo/.well-known/openid-configuration", get(discovery))
        .route("/demo/keys", get(key_set));
    let routes = open.merge(endpoints).with_state(demo);
    let routes = FILES.into_iter().fold(routes, |routes, (path, content_type, text)| {
        routes.route(path, get(async move || page_file(content_type, POLICY, text)))
    });
    routes.route_layer(from_fn_with_state(key.is_some(), require_own_page))
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

/// Refuses requests from the scripts of other pages and, on loopback, requests with another host name.
async fn require_own_page(State(is_published): State<bool>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &str| origin.strip_prefix("http://") == Some(host);
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().is_ok_and(is_own));
    let is_from_here = !is_cross_site(headers) || is_link(&request);
    if (is_published || is_loopback(host)) && origin.unwrap_or(true) && is_from_here {
        next.run(request).await
    } else {
        let message = "The demo answers requests of its own page only";
        Refused::with_reason(StatusCode::FORBIDDEN, "not_from_here", message).into_response()
    }
}

/// Refuses requests without the key of a published demo.
async fn require_key(State(key): State<Option<SecretString>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(KEY).map_or(&[][..], |value| value.as_bytes());
    // In constant time.
    if key.is_none_or(|key| given.ct_eq(key.expose_secret().as_bytes()).into()) {
        next.run(request).await
    } else {
        let message = "This demo needs a key: open the link that it printed when it started";
        Refused::new(StatusCode::UNAUTHORIZED, message, "demo_key").into_response()
    }
}

/// Whether a host name is `localhost` or a loopback address. An attacker can make any other name resolve to this
/// machine (DNS rebinding).
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    outgoing::is_loopback(name)
}

fn is_cross_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none")
}

/// Whether the user follows a link to the page, for example from a README or a chat. The page is the same for every
/// user, and the site with the link cannot read it.
fn is_link(request: &Request) -> bool {
    let has = |name: &str, value: &str| request.headers().get(name).is_some_and(|given| given == value);
    let is_page = matches!(request.uri().path(), "/" | PAGE);
    is_page && has("sec-fetch-mode", "navigate") && has("sec-fetch-dest", "document")
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_loopback_addresses_and_localhost_are_loopback() {
        for own in [
            "127.0.0.1:8080",
            "127.9.9.9",
            "localhost:8080",
            "LOCALHOST",
            "[::1]:8080",
            "[::1]",
            "[::ffff:127.0.0.1]:80",
        ] {
            assert!(is_loopback(own), "{own}");
        }
        for other in [
            "",
            "demo.example.com:8080",
            "127.0.0.1.example.com",
            "localhost.example.com:80",
            "192.0.2.1:8080",
            "[::ffff:192.0.2.1]",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
