//! `/commerceapi/authentication/`: issues anonymous tokens, and the customer context of a token. All other endpoints
//! check the two with the extractor [`Shopper`]. A refusal does not say which of the two is wrong.

use axum::Json;
use axum::extract::{FromRequest as _, FromRequestParts, Request, State};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::customer::AnonymousId;
use crate::http::document::Document;
use crate::http::headers::{bearer, single};
use crate::http::members::Members;
use crate::http::openapi::{Refusals, refusals};
use crate::rate_limit::Caller;
use crate::shopper::http::{
    ProviderUnavailable, ShopperError, Shoppers, TooLong, X_AUTH_KEY, X_CUSTOMER_CONTEXT, with_optional_slash,
};
use crate::shopper::{Bearer, Refusal};

/// The members that may have the anonymous id: that of the published API page, and that of the published client.
const ANONYMOUS_ID: [&str; 2] = ["anonymousAuthenticationRequest", "anonymousId"];

/// A token for a customer who has not signed in.
#[derive(Serialize, ToSchema)]
#[schema(as = AnonymousToken)]
#[serde(rename_all = "camelCase")]
struct Token<'a> {
    token_type: &'static str,
    access_token: &'a str,
    /// In seconds.
    expires_in: i64,
    /// Always empty. For a new token, send the anonymous id again.
    refresh_token: &'static str,
}

/// The customer context of a bearer token. It expires with the token.
#[derive(Serialize, ToSchema)]
#[schema(as = CustomerContext)]
#[serde(rename_all = "camelCase")]
struct Context<'a> {
    is_anonymous: bool,
    customer_context: &'a str,
}

/// The anonymous id (a GUID) of the token. If absent or null, a new one is made. Both members mean the same.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only a description: the body is parsed by hand")]
struct AnonymousTokenRequest {
    #[schema(format = "uuid")]
    anonymous_id: Option<String>,
    #[schema(format = "uuid")]
    anonymous_authentication_request: Option<String>,
}

refusals! {
    BadAnonymousId = Refusals::default().such_as([ShopperError::BadRow("anonymousId: must be a GUID or null".into())]);
}

pub(crate) fn routes() -> OpenApiRouter<Shoppers> {
    with_optional_slash(routes!(anonymous)).merge(with_optional_slash(routes!(context)))
}

/// Get a token for a customer who has not signed in
#[utoipa::path(
    post, path = "/commerceapi/authentication", operation_id = "anonymousToken", security(("authorizationKey" = [])),
    description = "Each address may send `commerce.failures_per_minute` wrong keys a minute; further ones get 429 \
        instead of 401.",
    request_body(content = Option<AnonymousTokenRequest>, example = json!({ "anonymousId": null })),
    responses(
        (status = 200, description = "The token. Its `jti` is the anonymous id, which is a secret.", body = Token<'_>),
        BadAnonymousId, TooLong,
    )
)]
async fn anonymous(State(shoppers): State<Shoppers>, request: Request) -> Result<Response, ShopperError> {
    let (parts, body) = request.into_parts();
    let caller = shoppers.caller(&parts);
    shoppers.count_request(&caller).await?;
    let key = single(&parts.headers, X_AUTH_KEY).map(HeaderValue::as_bytes);
    // Before the body is read, so that a caller without the key costs little.
    if !shoppers.commerce.is_authorized(key) {
        // Only wrong keys are counted here: the right key passes after any number of wrong ones, since clients may
        // share an address.
        let counted = shoppers.failures.count_request(&caller).await;
        counted.map_err(|wait| ShopperError::too_many_requests(wait, "auth_key_failures"))?;
        return Err(ShopperError::Unauthenticated(Refusal::WrongKey));
    }
    let document = Document::from_request(Request::from_parts(parts, body), &shoppers).await?;
    let id = anonymous_id(document.text())?;
    let _permit = shoppers.acquire_permit()?;
    let token = shoppers.commerce.anonymous_token(id, shoppers.clock.now())?;
    let access_token = token.expose_secret();
    let expires_in = shoppers.commerce.tokens.lifetime.num_seconds();
    Ok(Json(Token { token_type: "Bearer", access_token, expires_in, refresh_token: "" }).into_response())
}

/// Get the customer context of a bearer token
#[utoipa::path(
    get, path = "/commerceapi/authentication/customercontext", operation_id = "customerContext", security(("bearer" = [])),
    responses(
        (
            status = 200, description = "The customer context. It is valid with this token only, and expires with it.",
            body = Context<'_>
        ),
        ProviderUnavailable,
    )
)]
async fn context(State(shoppers): State<Shoppers>, TokenHolder(bearer): TokenHolder) -> Result<Response, ShopperError> {
    let _permit = shoppers.acquire_permit()?;
    let context = shoppers.commerce.customer_context(&bearer, shoppers.clock.now()).await?;
    let answer = Context { is_anonymous: bearer.customer.is_anonymous(), customer_context: context.expose_secret() };
    Ok(Json(answer).into_response())
}

/// The anonymous id in the body, if there is one.
fn anonymous_id(body: &str) -> Result<Option<AnonymousId>, ShopperError> {
    if matches!(body.trim_ascii(), "" | "null") {
        return Ok(None);
    }
    let members = Members::parse(body, ANONYMOUS_ID);
    let members = members.ok_or_else(|| ShopperError::BadRow("the body: must be a JSON object, or absent".into()))?;
    let mut id = None;
    let refusals = ["anonymousAuthenticationRequest: must be a GUID or null", "anonymousId: must be a GUID or null"];
    for (bad, value) in refusals.into_iter().zip(members.values) {
        let Some(value) = value.filter(|value| !value.is_null()) else { continue };
        let given = value.as_str().and_then(|text| AnonymousId::parse(&text));
        let given = given.ok_or_else(|| ShopperError::BadRow(bad.into()))?;
        if id.is_some_and(|id| id != given) {
            let message = "anonymousAuthenticationRequest and anonymousId: must be the same, or only one of them given";
            return Err(ShopperError::BadRow(message.into()));
        }
        id = Some(given);
    }
    Ok(id)
}

/// Extracts a valid bearer token.
struct TokenHolder(Bearer);

/// Extracts a valid bearer token with the customer context that was made for it.
pub(super) struct Shopper(pub(super) Bearer);

impl FromRequestParts<Shoppers> for TokenHolder {
    type Rejection = ShopperError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ShopperError> {
        authenticate(parts, shoppers, |_| Ok(())).await.map(Self)
    }
}

impl FromRequestParts<Shoppers> for Shopper {
    type Rejection = ShopperError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ShopperError> {
        let context = single(&parts.headers, X_CUSTOMER_CONTEXT);
        let context = context.and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
        let check = |bearer: &Bearer| shoppers.commerce.check_context(bearer, context);
        authenticate(parts, shoppers, check).await.map(Self)
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
