//! Who may call the gate's API, and how much they may ask: found out from the head of a request alone. Nothing of the body of a
//! stranger, or of a caller who asks too much, is read.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use ipnet::IpNet;

use super::caller::{Arrival, caller_of};
use super::error::ApiError;
use crate::callers::{Caller, Callers, Credentials};
use crate::metrics::Metrics;
use crate::rate_limit::{self, RateLimits};

const X_API_KEY: &str = "x-api-key";

/// How the API's port treats its callers.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Who may call.
    pub callers: Callers,
    /// What each caller may ask.
    pub limits: RateLimits,
    /// How often each address may ask without credentials that hold.
    pub failures: RateLimits,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Admission {
    /// Who calls, where callers are told apart. Without credentials that hold, the address is charged: it uses up no caller's allowance.
    pub(super) async fn identify(&self, head: &Parts) -> Result<Option<Arc<Caller>>, ApiError> {
        let certificate = head.extensions.get().and_then(|arrival: &Arrival| arrival.certificate.as_deref());
        let credentials = Credentials { api_key: api_key(&head.headers), certificate_subject: certificate };
        match self.callers.identify(credentials) {
            Ok(caller) => Ok(caller),
            Err(unknown) => {
                let address = self.address(head);
                let charged = self.failures.charge(&address).await;
                charged.map_err(|wait| ApiError::too_many_requests(wait, "unauthorized_limited"))?;
                Err(ApiError::UnknownCaller(unknown, address))
            }
        }
    }

    /// Charges a caller, or whoever is at the other end where callers are not told apart, for one more request.
    pub(super) async fn charge(&self, known: Option<&Caller>, head: &Parts) -> Result<(), ApiError> {
        let caller = match known {
            Some(known) => rate_limit::Caller::Named(Arc::clone(&known.name)),
            None => self.address(head),
        };
        self.limits.charge(&caller).await.map_err(|wait| {
            self.metrics.rate_limited();
            ApiError::too_many_requests(wait, "rate_limited")
        })
    }

    fn address(&self, head: &Parts) -> rate_limit::Caller {
        caller_of(&head.extensions, &head.headers, &self.trusted_proxies)
    }
}

/// The one `X-Api-Key`. Of several, which somebody on the way may have read otherwise, none is right.
fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut keys = headers.get_all(X_API_KEY).iter();
    let key = keys.next()?;
    Some(if keys.next().is_none() { key.as_bytes() } else { &[] })
}
