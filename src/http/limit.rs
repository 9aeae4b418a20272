//! The rate limit as a tower layer: charged per caller, before anything of the body is read.

use std::future::{Future, ready};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use ipnet::IpNet;
use tower::{Layer, Service};

use super::caller::{Peer, caller};
use super::error::ApiError;
use crate::metrics::Metrics;
use crate::rate_limit::RateLimits;

/// Refuses callers who ask too much.
#[derive(Clone)]
pub(super) struct RateLimitLayer {
    pub(super) limits: RateLimits,
    pub(super) trusted_proxies: Arc<[IpNet]>,
    pub(super) metrics: Metrics,
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit { layer: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(super) struct RateLimit<S> {
    layer: RateLimitLayer,
    inner: S,
}

impl<S> Service<Request> for RateLimit<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let peer = request.extensions().get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip());
        let caller = caller(peer, request.headers(), &self.layer.trusted_proxies);
        match self.layer.limits.charge(caller) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(wait) => {
                self.layer.metrics.rate_limited();
                let retry_after = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
                let refusal = ApiError::TooManyRequests { retry_after, reason: "rate_limited" };
                Box::pin(ready(Ok(refusal.into_response())))
            }
        }
    }
}
