//! The rate limit as a layer: charged per caller, before anything of the body is read.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;

use super::caller::{Peer, caller};
use super::error::ApiError;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;

/// What the layer needs.
#[derive(Clone)]
pub(super) struct RateLimit {
    pub(super) limits: RateLimits,
    pub(super) trusted_proxies: Arc<[IpNet]>,
    pub(super) metrics: Metrics,
}

/// Refuses callers who ask too much.
pub(super) async fn limit(State(rate_limit): State<RateLimit>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip());
    let caller = caller(peer, request.headers(), &rate_limit.trusted_proxies);
    let Err(wait) = rate_limit.limits.charge(caller).await else { return next.run(request).await };
    rate_limit.metrics.rate_limited();
    let retry_after = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    ApiError::TooManyRequests { retry_after, reason: "rate_limited" }.into_response()
}
