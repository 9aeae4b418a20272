//! The shopper's side. Each path is the same with a slash at its end, which the document does not repeat.

use axum::http::StatusCode;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, ParameterIn};
use utoipa::openapi::schema::{Array, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Content, RefOr, ResponseBuilder};

use super::super::error::ApiError;
use super::super::shopper::{
    CODE_HEADERS, CartBody, CartResponse, CodeBody, Context, SCAN_KEY_CODES, Token, not_signed_in,
};
use super::call::{Call, JSON, array_of, nullable, schema_of, text};
use super::{AUTHORIZATION_KEY, BEARER, CUSTOMER_CONTEXT, fault};
use crate::commerce::{NoCode, Refusal};
use crate::domain::cart::CartRefusal;

pub(super) const TAG: &str = "shopper";

const CART: &str = "/commerceapi/cart";

// What apps send. It is read by types that refuse in other words, or by hand: a test holds both together.

/// The anonymous id to be given again, a GUID; without one, or with null, it is a new one. Both names are the same.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is read by hand: this describes it")]
struct AnonymousTokenRequest {
    #[schema(format = "uuid")]
    anonymous_id: Option<String>,
    #[schema(format = "uuid")]
    anonymous_authentication_request: Option<String>,
}

/// A cart to open.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct NewCart {
    /// `Default` if it is left out.
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: Option<String>,
    #[schema(min_length = 1, max_length = 50, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    market: String,
    #[schema(schema_with = new_currency)]
    currency: String,
}

/// By its code, or as a cart has it.
fn new_currency() -> Schema {
    let code = || text(10).pattern(Some(PLAIN));
    let symbol = ObjectBuilder::new().schema_type(Type::String).max_length(Some(10)).pattern(Some(PLAIN));
    let whole = ObjectBuilder::new().property("code", code()).required("code").property("symbol", symbol);
    OneOfBuilder::new().item(code()).item(whole).description(Some("By its code, or as a cart has it.")).into()
}

/// No control character.
const PLAIN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// So much of one SKU.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct NewCartLine {
    /// Of a line that is there, to say how much of it there is to be; where more is put into a cart, it is ignored.
    id: Option<serde_json::Value>,
    #[schema(min_length = 1, max_length = 100, pattern = "^[ -~]+$")]
    sku: String,
    #[schema(minimum = 1, maximum = 999)]
    qty: u16,
}

/// Whose carts are taken along.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct CartMigration {
    #[schema(format = "uuid")]
    anonymous_id: String,
}

/// For which of the shopper's devices the code is.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct ScanKeyCodeRequest {
    #[schema(min_length = 1, max_length = 255)]
    device_id: Option<String>,
}

pub(super) fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    super::add::<AnonymousTokenRequest>(schemas);
    super::add::<NewCart>(schemas);
    super::add::<NewCartLine>(schemas);
    super::add::<CartMigration>(schemas);
    super::add::<ScanKeyCodeRequest>(schemas);
    super::add::<Token<'_>>(schemas);
    super::add::<Context<'_>>(schemas);
    super::add::<CodeBody<'_>>(schemas);
    super::add::<CartBody>(schemas);
    super::add::<CartResponse>(schemas);
}

pub(super) fn calls() -> impl Iterator<Item = Call> {
    let calls = [
        Call::new(
            HttpMethod::Post,
            "/commerceapi/authentication",
            "anonymousToken",
            "A token for whoever has not signed in",
        )
        .described(
            "Of wrong keys, an address has `commerce.failures_per_minute` answered with 401, and a 429 for the others.",
        )
        .needs(&[AUTHORIZATION_KEY])
        .may_take(nullable::<AnonymousTokenRequest>(), json!({ "anonymousId": null }))
        .answers("The token; its `jti` is the anonymous id, which is a secret.", schema_of::<Token<'_>>())
        .refuses_such_as(ApiError::BadRow("anonymousId: must be a GUID or null".into()))
        .refuses([ApiError::TooLong]),
        Call::new(
            HttpMethod::Get,
            "/commerceapi/authentication/customercontext",
            "customerContext",
            "The customer context that goes with a bearer token",
        )
        .needs(&[BEARER])
        .answers("It is good with this token alone, and ends with it.", schema_of::<Context<'_>>())
        .refuses([ApiError::ProviderUnavailable]),
        shoppers(HttpMethod::Get, CART, "carts", "All of a customer's carts")
            .answers("All of them.", array_of::<CartBody>()),
        shoppers(HttpMethod::Post, CART, "openCart", "Opens a cart, or finds the one of that name and market")
            .takes(schema_of::<NewCart>(), json!({ "name": "Default", "market": "DE", "currency": "EUR" }))
            .answers("The cart.", schema_of::<CartBody>())
            .refuses(
                [
                    CartRefusal::Name,
                    CartRefusal::Market,
                    CartRefusal::Currency,
                    CartRefusal::TooManyCarts,
                    CartRefusal::TooManyBytes,
                ]
                .map(ApiError::Cart),
            )
            .refuses_such_as(ApiError::BadRow("market: is missing".into()))
            .refuses([ApiError::TooLong, ApiError::Cart(CartRefusal::Full)]),
        one_cart(HttpMethod::Get, "", "cart", "One cart").answers("An array with that cart.", array_of::<CartBody>()),
        one_cart(HttpMethod::Delete, "", "deleteCart", "Deletes a cart").answers("The cart as it was.", change()),
        lines(HttpMethod::Post, "addToCart", "Puts more into a cart"),
        lines(HttpMethod::Put, "setCartLines", "Says how much there is to be in a cart"),
        one_cart(HttpMethod::Delete, "/lines/{sku}", "removeFromCart", "Takes a SKU out of a cart")
            .parameter("sku", ParameterIn::Path, "The SKU, percent-encoded.", text(100))
            .answers("The cart as it is now.", change())
            .refuses([ApiError::Cart(CartRefusal::NoSuchLine)]),
        shoppers(
            HttpMethod::Post,
            "/commerceapi/cart/migrate",
            "migrateCart",
            "Takes the carts of somebody who had not signed in along",
        )
        .described(
            "All or nothing: refused, the anonymous carts stay. Otherwise the anonymous carts are gone afterwards; called again, it moves what has come since.",
        )
        .takes(schema_of::<CartMigration>(), json!({ "anonymousId": "18af7ae9-87f3-4975-9015-7c35a3c9b9e2" }))
        .answers("The cart `Default` or, without one, the one that was changed last.", schema_of::<CartBody>())
        .refuses(
            [CartRefusal::TooManyCarts, CartRefusal::TooManyLines, CartRefusal::TooManyBytes].map(ApiError::Cart),
        )
        .refuses_such_as(ApiError::BadRow("anonymousId: must be a GUID".into()))
        .refuses([not_signed_in(), ApiError::TooLong, ApiError::Cart(CartRefusal::Full)]),
        codes(),
    ];
    let busy = || ApiError::TooManyRequests { retry_after: 1, reason: "" };
    let all = move || [ApiError::Unauthenticated(Refusal::NoToken), busy(), fault()];
    calls.into_iter().map(move |call| call.refuses(all()).tagged(TAG))
}

/// A call that needs both headers.
fn shoppers(method: HttpMethod, path: &str, id: &str, summary: &str) -> Call {
    Call::new(method, path, id, summary).needs(&[BEARER, CUSTOMER_CONTEXT]).refuses([ApiError::ProviderUnavailable])
}

fn one_cart(method: HttpMethod, rest: &str, id: &str, summary: &str) -> Call {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64));
    shoppers(method, &format!("{CART}/{{id}}{rest}"), id, summary)
        .parameter("id", ParameterIn::Path, "A cart of the customer's own.", number)
        .refuses([ApiError::Cart(CartRefusal::NoSuchCart)])
}

fn lines(method: HttpMethod, id: &str, summary: &str) -> Call {
    one_cart(method, "/lines", id, summary)
        .takes(Array::new(schema_of::<NewCartLine>()).into(), json!([{ "sku": "SKU-1", "qty": 2 }]))
        .answers("The cart as it is now.", change())
        .refuses(
            [
                CartRefusal::Sku,
                CartRefusal::Quantity,
                CartRefusal::TooManyLines,
                CartRefusal::TooManyBytes,
                CartRefusal::TooMuchOfOneSku,
            ]
            .map(ApiError::Cart),
        )
        .refuses_such_as(ApiError::BadRow("[0].sku: is missing".into()))
        .refuses([ApiError::Cart(CartRefusal::NoSuchLine), ApiError::Cart(CartRefusal::Full), ApiError::TooLong])
}

fn change() -> RefOr<Schema> {
    schema_of::<CartResponse>()
}

fn codes() -> Call {
    let told =
        |refusal: NoCode, status| ApiError::Told { status, reason: refusal.reason(), message: refusal.message() };
    let refusals = [NoCode::NotSignedIn, NoCode::NotLinked, NoCode::AccountFlagged, NoCode::PaymentExpired];
    let picture = || Content::new(Some(RefOr::from(ObjectBuilder::new().schema_type(Type::String).build())));
    let answer = ResponseBuilder::new()
        .description("The code; as a picture, the headers say what JSON would have said.")
        .content(JSON, Content::new(Some(schema_of::<CodeBody<'_>>())))
        .content("image/svg+xml", picture())
        .content("image/png", picture());
    let answer = CODE_HEADERS.iter().fold(answer, |answer, name| {
        let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        answer.header(name.as_str(), header.description(Some("With a picture only.")).build())
    });
    shoppers(HttpMethod::Post, SCAN_KEY_CODES, "scanKeyCode", "A code for the gate")
        .described("There only where `scan_key.customer_prefix` is set. `Accept: image/svg+xml` or `image/png` gets the QR code itself.")
        .may_take(schema_of::<ScanKeyCodeRequest>(), json!({ "deviceId": "device-abc-123" }))
        .responds(200, answer.build())
        .refuses([told(NoCode::UnknownDevice, StatusCode::BAD_REQUEST)])
        .refuses_such_as(ApiError::BadRow("deviceId: must be 1 to 255 characters, or null".into()))
        .refuses(refusals.map(|refusal| told(refusal, StatusCode::FORBIDDEN)))
        .refuses([ApiError::TooLong])
}
