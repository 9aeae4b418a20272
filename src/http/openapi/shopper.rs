//! Describes the shopper's side. Every path also works with a trailing slash, which the document does not repeat.

use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, ParameterIn};
use utoipa::openapi::schema::{Array, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::{Content, RefOr, ResponseBuilder};

use super::super::shopper::{
    CODE_HEADERS, CartBody, CartResponse, CodeBody, Context, SCAN_KEY_CODES, ShopperError, Token,
};
use super::call::{Call, JSON, array_of, nullable, schema_of, text};
use super::{AUTHORIZATION_KEY, BEARER, CUSTOMER_CONTEXT, fault};
use crate::commerce::{NoCode, Refusal};
use crate::domain::cart::CartRefusal;

pub(super) const TAG: &str = "shopper";

const CART: &str = "/commerceapi/cart";

// The bodies that apps send. These types are for the document only; other types or hand-written code parse the real
// bodies. A test compares the two.

/// The anonymous id (a GUID) of the token. If absent or null, a new one is made. Both members mean the same.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "the body is parsed by hand: this only describes it")]
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
    /// `Default` if absent.
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: Option<String>,
    #[schema(min_length = 1, max_length = 50, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    market: String,
    #[schema(schema_with = new_currency)]
    currency: String,
}

/// A currency code, or a currency as in a cart.
fn new_currency() -> Schema {
    let code = || text(10).pattern(Some(PLAIN));
    let symbol = ObjectBuilder::new().schema_type(Type::String).max_length(Some(10)).pattern(Some(PLAIN));
    let object = ObjectBuilder::new().property("code", code()).required("code").property("symbol", symbol);
    OneOfBuilder::new().item(code()).item(object).description(Some("The code alone, or an object as in a cart.")).into()
}

/// A pattern that allows no control characters.
const PLAIN: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// A SKU and its quantity.
#[derive(ToSchema)]
#[expect(dead_code, reason = "as above")]
struct NewCartLine {
    /// The id of an existing line, to set its quantity. Ignored when adding to a cart.
    id: Option<serde_json::Value>,
    #[schema(min_length = 1, max_length = 100, pattern = "^[ -~]+$")]
    sku: String,
    #[schema(minimum = 1, maximum = 999)]
    qty: u16,
}

/// The anonymous customer whose carts are moved.
#[derive(ToSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "as above")]
struct CartMigration {
    #[schema(format = "uuid")]
    anonymous_id: String,
}

/// The shopper's device that will show the code.
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
            "Get a token for a customer who has not signed in",
        )
        .described(
            "Each address may send `commerce.failures_per_minute` wrong keys a minute; further ones get 429 instead of 401.",
        )
        .needs(&[AUTHORIZATION_KEY])
        .may_take(nullable::<AnonymousTokenRequest>(), json!({ "anonymousId": null }))
        .answers("The token. Its `jti` is the anonymous id, which is a secret.", schema_of::<Token<'_>>())
        .refuses_such_as(ShopperError::BadRow("anonymousId: must be a GUID or null".into()))
        .refuses([ShopperError::TooLong]),
        Call::new(
            HttpMethod::Get,
            "/commerceapi/authentication/customercontext",
            "customerContext",
            "Get the customer context of a bearer token",
        )
        .needs(&[BEARER])
        .answers("The customer context. It is valid with this token only, and expires with it.", schema_of::<Context<'_>>())
        .refuses([ShopperError::ProviderUnavailable]),
        shoppers(HttpMethod::Get, CART, "carts", "List a customer's carts")
            .answers("All carts.", array_of::<CartBody>()),
        shoppers(HttpMethod::Post, CART, "openCart", "Open a cart, or get the existing one with that name and market")
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
                .map(ShopperError::Cart),
            )
            .refuses_such_as(ShopperError::BadRow("market: is missing".into()))
            .refuses([ShopperError::TooLong, ShopperError::Cart(CartRefusal::Full)]),
        one_cart(HttpMethod::Get, "", "cart", "Get a cart").answers("An array with that cart.", array_of::<CartBody>()),
        one_cart(HttpMethod::Delete, "", "deleteCart", "Delete a cart").answers("The deleted cart.", change()),
        lines(HttpMethod::Post, "addToCart", "Add to a cart"),
        lines(HttpMethod::Put, "setCartLines", "Set quantities in a cart"),
        one_cart(HttpMethod::Delete, "/lines/{sku}", "removeFromCart", "Remove a SKU from a cart")
            .parameter("sku", ParameterIn::Path, "The SKU, percent-encoded.", text(100))
            .answers("The changed cart.", change())
            .refuses([ShopperError::Cart(CartRefusal::NoSuchLine)]),
        shoppers(
            HttpMethod::Post,
            "/commerceapi/cart/migrate",
            "migrateCart",
            "Move an anonymous customer's carts to the signed-in customer",
        )
        .described(
            "Moves all carts or, if refused, none. Moved carts no longer belong to the anonymous customer. A second call moves only \
             what was added after the first.",
        )
        .takes(schema_of::<CartMigration>(), json!({ "anonymousId": "18af7ae9-87f3-4975-9015-7c35a3c9b9e2" }))
        .answers("The cart `Default` or, if there is none, the cart that was changed last.", schema_of::<CartBody>())
        .refuses(
            [CartRefusal::TooManyCarts, CartRefusal::TooManyLines, CartRefusal::TooManyBytes].map(ShopperError::Cart),
        )
        .refuses_such_as(ShopperError::BadRow("anonymousId: must be a GUID".into()))
        .refuses([ShopperError::NotSignedIn, ShopperError::TooLong, ShopperError::Cart(CartRefusal::Full)]),
        codes(),
    ];
    let busy = || ShopperError::TooManyRequests { retry_after: 1, reason: "" };
    let all = move || [ShopperError::Unauthenticated(Refusal::NoToken).into(), busy().into(), fault()];
    calls.into_iter().map(move |call| call.refuses(all()).tagged(TAG))
}

/// A call that needs both headers.
fn shoppers(method: HttpMethod, path: &str, id: &str, summary: &str) -> Call {
    Call::new(method, path, id, summary).needs(&[BEARER, CUSTOMER_CONTEXT]).refuses([ShopperError::ProviderUnavailable])
}

fn one_cart(method: HttpMethod, rest: &str, id: &str, summary: &str) -> Call {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64));
    shoppers(method, &format!("{CART}/{{id}}{rest}"), id, summary)
        .parameter("id", ParameterIn::Path, "The id of one of the customer's carts.", number)
        .refuses([ShopperError::Cart(CartRefusal::NoSuchCart)])
}

fn lines(method: HttpMethod, id: &str, summary: &str) -> Call {
    one_cart(method, "/lines", id, summary)
        .takes(Array::new(schema_of::<NewCartLine>()).into(), json!([{ "sku": "SKU-1", "qty": 2 }]))
        .answers("The changed cart.", change())
        .refuses(
            [
                CartRefusal::Sku,
                CartRefusal::Quantity,
                CartRefusal::TooManyLines,
                CartRefusal::TooManyBytes,
                CartRefusal::TooMuchOfOneSku,
            ]
            .map(ShopperError::Cart),
        )
        .refuses_such_as(ShopperError::BadRow("[0].sku: is missing".into()))
        .refuses([
            ShopperError::Cart(CartRefusal::NoSuchLine),
            ShopperError::Cart(CartRefusal::Full),
            ShopperError::TooLong,
        ])
}

fn change() -> RefOr<Schema> {
    schema_of::<CartResponse>()
}

fn codes() -> Call {
    let refusals = [NoCode::NotSignedIn, NoCode::NotLinked, NoCode::AccountFlagged, NoCode::PaymentExpired];
    let picture = || Content::new(Some(RefOr::from(ObjectBuilder::new().schema_type(Type::String).build())));
    let answer = ResponseBuilder::new()
        .description("The code. For an image, headers have the members of the JSON answer.")
        .content(JSON, Content::new(Some(schema_of::<CodeBody<'_>>())))
        .content("image/svg+xml", picture())
        .content("image/png", picture());
    let answer = CODE_HEADERS.iter().fold(answer, |answer, name| {
        let header = HeaderBuilder::new().schema(Some(ObjectBuilder::new().schema_type(Type::String)));
        answer.header(name.as_str(), header.description(Some("Only with an image.")).build())
    });
    shoppers(HttpMethod::Post, SCAN_KEY_CODES, "scanKeyCode", "Make a Scan Key Code for the gate")
        .described(
            "Requires `scan_key.customer_prefix`. With `Accept: image/svg+xml` or `image/png`, the answer is the image of the QR code.",
        )
        .may_take(schema_of::<ScanKeyCodeRequest>(), json!({ "deviceId": "device-abc-123" }))
        .responds(200, answer.build())
        .refuses([ShopperError::NoCode(NoCode::UnknownDevice)])
        .refuses_such_as(ShopperError::BadRow("deviceId: must be 1 to 255 characters, or null".into()))
        .refuses(refusals.map(ShopperError::NoCode))
        .refuses([ShopperError::TooLong])
}
