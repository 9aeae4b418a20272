//! Authentication of shopper requests: the bearer token and, for all endpoints but authentication itself, the customer
//! context made for that token. A refusal does not say which of the two is wrong.

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::http::headers::bearer;
use crate::rate_limit::Caller;
use crate::shopper::http::{ShopperError, Shoppers, X_CUSTOMER_CONTEXT};
use crate::shopper::{Bearer, Refusal};

/// Extracts a valid bearer token.
pub(crate) struct TokenHolder(pub(crate) Bearer);

/// Extracts a valid bearer token with the customer context that was made for it.
pub(crate) struct Shopper(pub(crate) Bearer);

impl FromRequestParts<Shoppers> for TokenHolder {
    type Rejection = ShopperError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ShopperError> {
        let bearer = authenticate(parts, shoppers, |_| Ok(())).await?;
        Ok(Self(bearer))
    }
}

impl FromRequestParts<Shoppers> for Shopper {
    type Rejection = ShopperError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ShopperError> {
        let context = single_header(&parts.headers, X_CUSTOMER_CONTEXT).map(str::to_owned);
        let check = |bearer: &Bearer| shoppers.commerce.check_context(bearer, context.as_deref());
        let bearer = authenticate(parts, shoppers, check).await?;
        Ok(Self(bearer))
    }
}

/// Authenticates a request and counts it against a rate limit: that of a valid token, since many phones may share one
/// address. Without a valid token, the limit of the client's address applies, before the request waits for anything.
async fn authenticate(
    parts: &Parts,
    shoppers: &Shoppers,
    check: impl FnOnce(&Bearer) -> Result<(), Refusal>,
) -> Result<Bearer, ShopperError> {
    let mut is_counted = false;
    let authenticated = match bearer(&parts.headers) {
        Some(token) => {
            let count_request = async {
                is_counted = true;
                shoppers.limits.count_request(&shoppers.caller(parts)).await
            };
            shoppers.commerce.authenticate(token, shoppers.clock.now(), count_request).await
        }
        None => Err(Refusal::NoToken.into()),
    };
    let checked = authenticated.and_then(|bearer| check(&bearer).map(|()| bearer).map_err(Into::into));
    match &checked {
        Ok(bearer) => shoppers.count_request(&Caller::Token(bearer.hash())).await?,
        Err(_) if is_counted => {}
        Err(_) => shoppers.count_request(&shoppers.caller(parts)).await?,
    }
    Ok(checked?)
}

/// The value of a header that occurs exactly once and is not empty.
fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().filter(|value| !value.is_empty())
}
