//! Authentication and rate limits of the gate's callers. Both need the head of a request only: the body of an unknown
//! caller, or of one over its limit, is never read.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use ipnet::IpNet;

use crate::callers::{Caller, Callers, Credentials};
use crate::gate_api::answer::GateError;
use crate::http::headers::caller_of;
use crate::http::request_log::LogFields;
use crate::observe::metrics::Metrics;
use crate::rate_limit::{self, RateLimits};
use crate::server::Arrival;

const X_API_KEY: &str = "x-api-key";

/// Identifies the callers of the API's port and counts their requests against their limits.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The configured callers.
    pub callers: Callers,
    /// The rate limit of each caller.
    pub limits: RateLimits,
    /// The rate limit of each address for requests without valid credentials.
    pub failures: RateLimits,
    /// The proxies whose `X-Forwarded-For` is trusted.
    pub trusted_proxies: Arc<[IpNet]>,
    /// The metrics.
    pub metrics: Metrics,
}

impl Admission {
    /// Identifies the caller and counts the request against its limit. Returns the caller, if callers are configured.
    pub(super) async fn admit(&self, head: &Parts, log: &LogFields) -> Result<Option<Arc<Caller>>, GateError> {
        // First, so that unknown callers do not use up the allowance of known ones.
        let caller = self.identify(head).await?;
        if let Some(caller) = &caller {
            log.set_caller(Arc::clone(&caller.name));
        }
        // Before the body, so that a caller over its limit costs no work.
        self.count_request(caller.as_deref(), head).await?;
        Ok(caller)
    }

    /// Identifies the caller; `None` if no callers are configured. Without valid credentials, the request counts
    /// against the limit of its address, not of a caller.
    async fn identify(&self, head: &Parts) -> Result<Option<Arc<Caller>>, GateError> {
        let certificate = head.extensions.get().and_then(|arrival: &Arrival| arrival.certificate.as_deref());
        let credentials = Credentials { api_key: api_key(&head.headers), certificate_subject: certificate };
        match self.callers.identify(credentials) {
            Ok(caller) => Ok(caller),
            Err(unknown) => {
                let address = self.address(head);
                let counted = self.failures.count_request(&address).await;
                counted.map_err(|wait| GateError::too_many_requests(wait, "unauthorized_limited"))?;
                Err(GateError::UnknownCaller(unknown, address))
            }
        }
    }

    /// Counts a request against the limit of the caller, or of the client's address if no callers are configured.
    async fn count_request(&self, known: Option<&Caller>, head: &Parts) -> Result<(), GateError> {
        let caller = match known {
            Some(known) => rate_limit::Caller::Named(Arc::clone(&known.name)),
            None => self.address(head),
        };
        self.limits.count_request(&caller).await.map_err(|wait| {
            self.metrics.rate_limited.inc();
            GateError::too_many_requests(wait, "rate_limited")
        })
    }

    fn address(&self, head: &Parts) -> rate_limit::Caller {
        caller_of(&head.extensions, &head.headers, &self.trusted_proxies)
    }
}

/// The value of `X-Api-Key`. With several such headers it is empty and so never valid, since a proxy may have checked
/// another one.
fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut keys = headers.get_all(X_API_KEY).iter();
    let key = keys.next()?;
    Some(if keys.next().is_none() { key.as_bytes() } else { &[] })
}
