//! The shopper's side: `/commerceapi/…` and `/v1/scan-key-codes`. Its callers are phones, many of them, none of which may hold up a gate:
//! they have limits of their own.

mod authentication;
mod cart_wire;
mod carts;
mod credentials;
mod held;
mod picture;
mod scan_key_codes;

pub(super) use authentication::{Context, Token};
pub(super) use cart_wire::{CartBody, CartResponse};
pub(super) use carts::{not_signed_in, why};
pub(super) use scan_key_codes::{CODE_HEADERS, CodeBody};

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::MethodRouter;
use hyper::ext::ReasonPhrase;
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::caller::caller_of;
use super::error::{ApiError, Said};
use crate::clock::Clock;
use crate::commerce::Commerce;
use crate::metrics::Metrics;
use crate::rate_limit::{Caller, RateLimits};

const X_AUTH_KEY: &str = "x-auth-key";
const X_CUSTOMER_CONTEXT: &str = "x-customer-context";

pub(super) const SCAN_KEY_CODES: &str = "/v1/scan-key-codes";
/// How their paths begin.
const PATHS: [&str; 2] = ["/commerceapi/", SCAN_KEY_CODES];

/// Whether a path is one of theirs.
pub(super) fn is_path(path: &str) -> bool {
    PATHS.iter().any(|beginning| path.starts_with(beginning))
}

/// What the shopper's endpoints need.
#[derive(Clone, Debug)]
pub struct Shoppers {
    /// The use cases.
    pub commerce: Arc<Commerce>,
    /// The time.
    pub clock: Clock,
    /// What each token, or each peer without one, may ask.
    pub limits: RateLimits,
    /// How often each peer may be wrong about the authorization key.
    pub failures: RateLimits,
    /// How many requests may be worked on at once.
    pub in_flight: Arc<Semaphore>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Which web pages may call.
    pub allowed_origins: Arc<[String]>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Shoppers {
    fn caller(&self, request: &axum::http::request::Parts) -> Caller {
        caller_of(&request.extensions, &request.headers, &self.trusted_proxies)
    }

    /// Lets one more be worked on, until what is returned is dropped; the rest are better off asking again than waiting. To be called when
    /// the whole request is there: nobody is to take a place by sending slowly.
    fn enter(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.in_flight).try_acquire_owned();
        place.map_err(|_| ApiError::TooManyRequests { retry_after: 1, reason: "overloaded" })
    }

    /// Charges one request.
    async fn charge(&self, caller: &Caller) -> Result<(), ApiError> {
        self.limits.charge(caller).await.map_err(|wait| ApiError::too_many_requests(wait, "rate_limited"))
    }
}

/// The shopper's endpoints, also for the web pages that may call them.
pub(super) fn routes(shoppers: Shoppers) -> Router {
    let origins: Vec<HeaderValue> = shoppers.allowed_origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let routes = Router::new()
        .merge(authentication::routes())
        .merge(carts::routes())
        .merge(if shoppers.commerce.codes.is_some() { scan_key_codes::routes() } else { Router::new() })
        .with_state(shoppers)
        // Here and not where all ports have it: what is set there is outside of the layers below, which would not see a preflight.
        .method_not_allowed_fallback(async |_: Request| ApiError::MethodNotAllowed)
        .layer(from_fn(say_why));
    if origins.is_empty() { routes } else { routes.layer(cors(origins)) }
}

/// A route with and without the slash at its end.
fn both<S: Clone + Send + Sync + 'static>(path: &str, methods: MethodRouter<S>) -> Router<S> {
    Router::new().route(path, methods.clone()).route(&format!("{path}/"), methods)
}

/// The longest reason phrase, in bytes.
const MAX_PHRASE: usize = 120;

/// Puts the message of a refusal into the status line as well: the published client of this API reads it there. Only a constant of ours,
/// in ASCII and not long: a proxy in front gives up on a status line of any length, and on a sender's text in it.
async fn say_why(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let phrase = match response.extensions().get::<Said>() {
        Some(Said(Cow::Borrowed(said))) if said.len() <= MAX_PHRASE && said.is_ascii() => {
            ReasonPhrase::try_from(said.as_bytes()).ok()
        }
        _ => None,
    };
    if let Some(phrase) = phrase {
        response.extensions_mut().insert(phrase);
    }
    response
}

fn cors(origins: Vec<HeaderValue>) -> CorsLayer {
    let own = [X_AUTH_KEY, X_CUSTOMER_CONTEXT].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(
            [header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE].into_iter().chain(own).collect::<Vec<_>>(),
        )
        .expose_headers(
            [header::RETRY_AFTER, header::WWW_AUTHENTICATE].into_iter().chain(CODE_HEADERS).collect::<Vec<_>>(),
        )
        .max_age(std::time::Duration::from_secs(60 * 60))
}
