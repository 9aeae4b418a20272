//! Who asks: the bearer token, and for all but the first call the customer context that goes with it. Whoever has neither, or not the
//! right ones, is told no more than that.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::{Shoppers, X_CUSTOMER_CONTEXT};
use crate::commerce::{AuthenticationError, Bearer, Refusal};
use crate::http::bearer::bearer;
use crate::http::error::ApiError;
use crate::rate_limit::Caller;

/// Whoever holds a bearer token that holds.
pub(super) struct TokenHolder(pub(super) Bearer);

/// The same with the customer context that was made for the token.
pub(super) struct Shopper(pub(super) Bearer);

impl FromRequestParts<Shoppers> for TokenHolder {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ApiError> {
        let bearer = admit(parts, shoppers, |_| Ok(())).await?;
        Ok(Self(bearer))
    }
}

impl FromRequestParts<Shoppers> for Shopper {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ApiError> {
        let context = one(&parts.headers, X_CUSTOMER_CONTEXT).map(str::to_owned);
        let bearer =
            admit(parts, shoppers, |bearer| shoppers.commerce.check_context(bearer, context.as_deref())).await?;
        Ok(Self(bearer))
    }
}

/// A token that holds is charged for itself, so that a crowd behind one address is not one caller; else the peer is charged, whatever
/// token they make up, and before anything is waited for.
async fn admit(
    parts: &Parts,
    shoppers: &Shoppers,
    check: impl FnOnce(&Bearer) -> Result<(), Refusal>,
) -> Result<Bearer, ApiError> {
    let mut is_charged = false;
    let authenticated = match bearer(&parts.headers) {
        Some(token) => {
            let charge = async {
                is_charged = true;
                shoppers.limits.charge(&shoppers.caller(parts)).await
            };
            shoppers.commerce.authenticate(token, shoppers.clock.now(), charge).await
        }
        None => Err(Refusal::NoToken.into()),
    };
    let checked = authenticated.and_then(|bearer| check(&bearer).map(|()| bearer).map_err(Into::into));
    match &checked {
        Ok(bearer) => shoppers.charge(&Caller::Token(bearer.hash())).await?,
        Err(_) if is_charged => {}
        Err(_) => shoppers.charge(&shoppers.caller(parts)).await?,
    }
    Ok(checked?)
}

/// A header that is there just once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().filter(|value| !value.is_empty())
}

impl From<AuthenticationError> for ApiError {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Refused(refusal) => Self::Unauthenticated(refusal),
            AuthenticationError::ProviderUnavailable => Self::ProviderUnavailable,
            AuthenticationError::TooManyWaiting => Self::TooManyRequests { retry_after: 1, reason: "overloaded" },
            AuthenticationError::RateLimited(wait) => Self::too_many_requests(wait, "rate_limited"),
        }
    }
}
