//! The shopper's side: `/commerceapi/…` and `/v1/scan-key-codes`, called by the shopper's app.
//!
//! It has rate limits and a limit of requests in progress of its own, so that no number of apps can delay a gate.

mod authentication;
mod carts;
mod error;
mod scan_key_codes;

pub(crate) use error::ShopperError;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use hyper::ext::ReasonPhrase;
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_http::cors::CorsLayer;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::clock::Clock;
use crate::http::error::{Message, Refused};
use crate::http::headers::caller_of;
use crate::http::openapi::{self, BEARER, CUSTOMER_CONTEXT, Refusals, fault, refusals};
use crate::http::{Readiness, probes, with_common_layers};
use crate::observe::metrics::Metrics;
use crate::rate_limit::{Caller, RateLimits};
use crate::shopper::{Commerce, Refusal};

/// The tag of the descriptions.
const TAG: &str = "shopper";

const X_AUTH_KEY: &str = "x-auth-key";
const X_CUSTOMER_CONTEXT: &str = "x-customer-context";

/// The state of the shopper's endpoints.
#[derive(Clone, Debug)]
pub(crate) struct Shoppers {
    /// The use cases.
    pub commerce: Arc<Commerce>,
    pub clock: Clock,
    /// The rate limit of each token, or of each address without a valid token.
    pub limits: RateLimits,
    /// The rate limit of each address for wrong authorization keys.
    pub failures: RateLimits,
    /// The limit of requests in progress (`commerce.max_in_flight`).
    pub in_flight: Arc<Semaphore>,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Arc<[IpNet]>,
    /// The origins of web pages that may call (CORS).
    pub allowed_origins: Arc<[String]>,
    pub metrics: Metrics,
}

impl Shoppers {
    fn caller(&self, request: &Parts) -> Caller {
        caller_of(&request.extensions, &request.headers, &self.trusted_proxies)
    }

    /// Takes a permit for a request, or refuses it with 429: retrying later is better for an app than waiting. Call
    /// this only when the whole request has arrived, so that slow senders hold no permits.
    fn acquire_permit(&self) -> Result<OwnedSemaphorePermit, ShopperError> {
        let permit = Arc::clone(&self.in_flight).try_acquire_owned();
        permit.map_err(|_| ShopperError::TooManyRequests { retry_after: 1, reason: "overloaded" })
    }

    /// Counts a request against the caller's limit.
    async fn count_request(&self, caller: &Caller) -> Result<(), ShopperError> {
        self.limits.count_request(caller).await.map_err(|wait| ShopperError::too_many_requests(wait, "rate_limited"))
    }
}

/// The router of the shopper's port.
pub(crate) fn router(shoppers: Shoppers, readiness: Readiness) -> Router {
    let metrics = shoppers.metrics.clone();
    with_common_layers(routes(shoppers).merge(probes(readiness)), metrics)
}

/// The routes of the shopper's side, with CORS if web pages may call them.
pub(crate) fn routes(shoppers: Shoppers) -> Router {
    let origins: Vec<HeaderValue> = shoppers.allowed_origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let routes = authentication::routes().merge(carts::routes());
    let routes = if shoppers.commerce.codes.is_some() { routes.merge(scan_key_codes::routes()) } else { routes };
    let routes = Router::from(routes)
        .with_state(shoppers)
        // Set here although every port sets it too: the layers below wrap only fallbacks that are set before them, and
        // CORS must see a preflight request.
        .method_not_allowed_fallback(async |_: Request| Refused::method_not_allowed())
        .layer(from_fn(set_reason_phrase));
    if origins.is_empty() { routes } else { routes.layer(cors(origins)) }
}

/// All routes, with their descriptions.
pub(crate) fn described_routes() -> OpenApiRouter<Shoppers> {
    let routes = carts::routes().merge(scan_key_codes::routes());
    let routes = openapi::in_common(routes, TAG, &[BEARER, CUSTOMER_CONTEXT], || {
        Refusals::default().exactly([ShopperError::ProviderUnavailable])
    });
    openapi::in_common(authentication::routes().merge(routes), TAG, &[], || {
        let busy = ShopperError::TooManyRequests { retry_after: 1, reason: "" };
        Refusals::default().exactly([ShopperError::Unauthenticated(Refusal::NoToken), busy]).exactly([fault()])
    })
}

refusals! {
    ProviderUnavailable = Refusals::default().exactly([ShopperError::ProviderUnavailable]);
    TooLong = Refusals::default().exactly([ShopperError::TooLong]);
}

/// Routes, with and without a trailing slash. The description does not repeat the path with it.
fn with_optional_slash(methods: UtoipaMethodRouter<Shoppers>) -> OpenApiRouter<Shoppers> {
    let (_, paths, router) = &methods;
    let slashed = paths.paths.keys().map(|path| (format!("{path}/"), router.clone()));
    let routes = slashed.fold(OpenApiRouter::default(), |routes, (path, router)| routes.route(&path, router));
    routes.routes(methods)
}

/// The longest reason phrase, in bytes.
const MAX_PHRASE: usize = 120;

/// Puts the message of a refusal into the status line too, where the published client of this API reads it. Only short,
/// constant ASCII messages: proxies reject long status lines, and a text from the request does not belong there.
async fn set_reason_phrase(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let phrase = match response.extensions().get::<Message>() {
        Some(Message(Cow::Borrowed(message))) if message.len() <= MAX_PHRASE && message.is_ascii() => {
            ReasonPhrase::try_from(message.as_bytes()).ok()
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
    let [accept, authorization, content_type] = [header::ACCEPT, header::AUTHORIZATION, header::CONTENT_TYPE];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([&[accept, authorization, content_type][..], &own].concat())
        .expose_headers([&[header::RETRY_AFTER, header::WWW_AUTHENTICATE][..], &scan_key_codes::CODE_HEADERS].concat())
        .max_age(Duration::from_secs(60 * 60))
}
