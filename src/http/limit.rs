//! The rate limit as a layer: charged per caller, before anything of the body is read.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;

use super::authentication::KnownCaller;
use super::caller::caller_of;
use super::error::ApiError;
use crate::metrics::Metrics;
use crate::rate_limit::{Caller, RateLimits};

/// What the layer needs.
#[derive(Clone)]
pub(super) struct RateLimit {
    pub(super) limits: RateLimits,
    pub(super) trusted_proxies: Arc<[IpNet]>,
    pub(super) metrics: Metrics,
}

/// Refuses callers who ask too much.
pub(super) async fn limit(State(rate_limit): State<RateLimit>, request: Request, next: Next) -> Response {
    let caller = match request.extensions().get::<KnownCaller>() {
        Some(KnownCaller(known)) => Caller::Named(Arc::clone(&known.name)),
        None => caller_of(request.extensions(), request.headers(), &rate_limit.trusted_proxies),
    };
    let Err(wait) = rate_limit.limits.charge(&caller).await else { return next.run(request).await };
    rate_limit.metrics.rate_limited();
    ApiError::too_many_requests(wait, "rate_limited").into_response()
}
