//! `/commerceapi/cart/`: carts in the format of the published client. The connector has no catalogue: prices are zero,
//! and the display name of a line is its SKU.

use std::fmt;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::response::Response;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::customer::{AnonymousId, Customer};
use crate::http::document::Document;
use crate::http::openapi::{Refusals, refusals};
use crate::shopper::carts::rules::{
    Cart, CartId, CartName, CartRefusal, Carts, Currency, LineId, MAX_QUANTITY, Market, Quantity, Sku,
};
use crate::shopper::http::cart_wire::{CartBody, CartResponse};
use crate::shopper::http::credentials::Shopper;
use crate::shopper::http::{ShopperError, Shoppers, TooLong, permit_body, with_optional_slash};

type Answer = Result<Response, ShopperError>;

/// The name of a cart that the client opens without a name.
const DEFAULT_NAME: &str = "Default";

pub(crate) fn routes() -> OpenApiRouter<Shoppers> {
    with_optional_slash(routes!(list, open))
        .merge(with_optional_slash(routes!(migrate)))
        .merge(with_optional_slash(routes!(get_cart, remove)))
        .merge(with_optional_slash(routes!(add, set)))
        .merge(with_optional_slash(routes!(remove_line)))
}

refusals! {
    CannotOpen = Refusals::default()
        .exactly([
            CartRefusal::Name,
            CartRefusal::Market,
            CartRefusal::Currency,
            CartRefusal::TooManyCarts,
            CartRefusal::TooManyBytes,
        ].map(ShopperError::Cart))
        .such_as([ShopperError::BadRow("market: is missing".into())]);
    NoSuchCart = Refusals::default().exactly([ShopperError::Cart(CartRefusal::NoSuchCart)]);
    NoSuchLine = Refusals::default().exactly([CartRefusal::NoSuchCart, CartRefusal::NoSuchLine].map(ShopperError::Cart));
    BadLines = Refusals::default()
        .exactly([
            CartRefusal::Sku,
            CartRefusal::Quantity,
            CartRefusal::TooManyLines,
            CartRefusal::TooManyBytes,
            CartRefusal::TooMuchOfOneSku,
        ].map(ShopperError::Cart))
        .such_as([ShopperError::BadRow("[0].sku: is missing".into())]);
    CannotMigrate = Refusals::default()
        .exactly([CartRefusal::TooManyCarts, CartRefusal::TooManyLines, CartRefusal::TooManyBytes].map(ShopperError::Cart))
        .such_as([ShopperError::BadRow("anonymousId: must be a GUID".into())])
        .exactly([ShopperError::NotSignedIn]);
}

/// Describes the id in a path.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only a description: `Id` extracts it")]
struct CartParameter {
    /// The id of one of the customer's carts.
    #[param(minimum = 1)]
    id: usize,
}

/// A cart to open.
#[derive(Deserialize, ToSchema)]
struct NewCart {
    /// `Default` if absent.
    #[schema(min_length = 1, max_length = 100, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    name: Option<String>,
    #[schema(min_length = 1, max_length = 50, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    market: String,
    #[schema(schema_with = described_currency)]
    currency: NewCurrency,
}

/// A currency: its code alone, as the client sends it, or an object as in answers.
enum NewCurrency {
    Code(String),
    Whole(WholeCurrency),
}

fn described_currency() -> Schema {
    let code = ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(10));
    let code = code.pattern(Some(r"^[^\x00-\x1f\x7f-\x9f]*$"));
    let one = OneOfBuilder::new().item(code).item(WholeCurrency::schema());
    one.description(Some("The code alone, or an object as in a cart.")).into()
}

impl<'de> Deserialize<'de> for NewCurrency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct CurrencyVisitor;
        impl<'de> Visitor<'de> for CurrencyVisitor {
            type Value = NewCurrency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a currency code, or an object with a code")
            }

            fn visit_str<E>(self, code: &str) -> Result<NewCurrency, E> {
                Ok(NewCurrency::Code(code.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<NewCurrency, A::Error> {
                WholeCurrency::deserialize(MapAccessDeserializer::new(members)).map(NewCurrency::Whole)
            }
        }
        from.deserialize_any(CurrencyVisitor)
    }
}

#[derive(Deserialize, ToSchema)]
struct WholeCurrency {
    #[schema(min_length = 1, max_length = 10, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    code: String,
    #[serde(default)]
    #[schema(max_length = 10, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    symbol: String,
}

/// A SKU and its quantity.
#[derive(Deserialize, ToSchema)]
#[schema(as = NewCartLine)]
struct NewLine {
    /// The id of an existing line, to set its quantity. Ignored when adding to a cart.
    id: Option<Value>, // for a new line, apps send any other value, such as -1
    #[schema(min_length = 1, max_length = 100, pattern = "^[ -~]+$")]
    sku: String,
    #[schema(value_type = u16, minimum = 1, maximum = 999)]
    qty: Value, // any JSON value, so that a bad quantity gets the message about quantities
}

/// The anonymous customer whose carts are moved.
#[derive(Deserialize, ToSchema)]
#[schema(as = CartMigration)]
#[serde(rename_all = "camelCase")]
struct Migration {
    #[schema(format = "uuid")]
    anonymous_id: String,
}

/// The id of a cart in a path. An invalid id is answered like an unknown one.
struct Id(CartId);

impl FromRequestParts<Shoppers> for Id {
    type Rejection = ShopperError;

    async fn from_request_parts(parts: &mut Parts, shoppers: &Shoppers) -> Result<Self, ShopperError> {
        let names = Path::<Vec<(String, String)>>::from_request_parts(parts, shoppers).await;
        let id = names.ok().and_then(|Path(names)| names.into_iter().find(|(name, _)| name == "id"));
        let id = id.and_then(|(_, id)| id.parse().ok()).and_then(CartId::new);
        id.map(Self).ok_or(ShopperError::Cart(CartRefusal::NoSuchCart))
    }
}

/// List a customer's carts
#[utoipa::path(
    get, path = "/commerceapi/cart", operation_id = "carts",
    responses((status = 200, description = "All carts.", body = Vec<CartBody>))
)]
async fn list(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper) -> Answer {
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.get(bearer.customer(), shoppers.clock.now()).await?;
    let bodies: Vec<CartBody> = carts.all().iter().map(|cart| CartBody::new(cart, bearer.customer())).collect();
    permit_body::json(bodies, permit).await
}

/// Get a cart
#[utoipa::path(
    get, path = "/commerceapi/cart/{id}", operation_id = "cart", params(CartParameter),
    responses((status = 200, description = "An array with that cart.", body = Vec<CartBody>), NoSuchCart)
)]
async fn get_cart(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id) -> Answer {
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.get(bearer.customer(), shoppers.clock.now()).await?;
    let cart = carts.find(id).map_err(ShopperError::Cart)?;
    permit_body::json([CartBody::new(cart, bearer.customer())], permit).await
}

/// Open a cart, or get the existing one with that name and market
#[utoipa::path(
    post, path = "/commerceapi/cart", operation_id = "openCart",
    request_body(content = NewCart, example = json!({ "name": "Default", "market": "DE", "currency": "EUR" })),
    responses((status = 200, description = "The cart.", body = CartBody), CannotOpen, TooLong)
)]
async fn open(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, document: Document) -> Answer {
    let NewCart { name, market, currency } = document.read()?;
    let name = CartName::parse(name.as_deref().unwrap_or(DEFAULT_NAME)).map_err(ShopperError::Cart)?;
    let market = Market::parse(&market).map_err(ShopperError::Cart)?;
    let currency = match &currency {
        NewCurrency::Code(code) => Currency::new(code, ""),
        NewCurrency::Whole(WholeCurrency { code, symbol }) => Currency::new(code, symbol),
    };
    let currency = currency.map_err(ShopperError::Cart)?;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| ShopperError::Internal { reason: "randomness", cause: error.to_string() })?;
    let (id, now) = (CartId::from_random_bytes(bytes), shoppers.clock.now());
    let change =
        change(&shoppers, bearer.customer(), move |carts| carts.open(name, market, currency, id, now).cloned());
    let (cart, permit) = change.await?;
    permit_body::json(CartBody::new(&cart, bearer.customer()), permit).await
}

/// Delete a cart
#[utoipa::path(
    delete, path = "/commerceapi/cart/{id}", operation_id = "deleteCart", params(CartParameter),
    responses((status = 200, description = "The deleted cart.", body = CartResponse), NoSuchCart)
)]
async fn remove(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id) -> Answer {
    let (cart, permit) = change(&shoppers, bearer.customer(), move |carts| carts.delete(id)).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

/// Add to a cart
#[utoipa::path(
    post, path = "/commerceapi/cart/{id}/lines", operation_id = "addToCart", params(CartParameter),
    request_body(content = Vec<NewLine>, example = json!([{ "sku": "SKU-1", "qty": 2 }])),
    responses((status = 200, description = "The changed cart.", body = CartResponse), BadLines, NoSuchLine, TooLong)
)]
async fn add(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id, document: Document) -> Answer {
    let lines = lines(&document)?.into_iter().map(|(_, sku, quantity)| (sku, quantity)).collect();
    let now = shoppers.clock.now();
    let (cart, permit) =
        change(&shoppers, bearer.customer(), move |carts| carts.add_lines(id, lines, now).cloned()).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

/// Set quantities in a cart
#[utoipa::path(
    put, path = "/commerceapi/cart/{id}/lines", operation_id = "setCartLines", params(CartParameter),
    request_body(content = Vec<NewLine>, example = json!([{ "sku": "SKU-1", "qty": 2 }])),
    responses((status = 200, description = "The changed cart.", body = CartResponse), BadLines, NoSuchLine, TooLong)
)]
async fn set(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id, document: Document) -> Answer {
    let (lines, now) = (lines(&document)?, shoppers.clock.now());
    let (cart, permit) =
        change(&shoppers, bearer.customer(), move |carts| carts.set_lines(id, lines, now).cloned()).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

/// Remove a SKU from a cart
#[utoipa::path(
    delete, path = "/commerceapi/cart/{id}/lines/{sku}", operation_id = "removeFromCart",
    params(
        CartParameter,
        ("sku" = String, Path, description = "The SKU, percent-encoded.", min_length = 1, max_length = 100),
    ),
    responses((status = 200, description = "The changed cart.", body = CartResponse), NoSuchLine)
)]
async fn remove_line(
    State(shoppers): State<Shoppers>,
    Shopper(bearer): Shopper,
    Id(id): Id,
    path: Result<Path<(String, String)>, axum::extract::rejection::PathRejection>,
) -> Answer {
    let sku = path
        .ok()
        .and_then(|Path((_, sku))| Sku::parse(&sku).ok())
        .ok_or(ShopperError::Cart(CartRefusal::NoSuchLine))?;
    let now = shoppers.clock.now();
    let (cart, permit) =
        change(&shoppers, bearer.customer(), move |carts| carts.remove_line(id, &sku, now).cloned()).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

/// Move an anonymous customer's carts to the signed-in customer
#[utoipa::path(
    post, path = "/commerceapi/cart/migrate", operation_id = "migrateCart",
    description = "Moves all carts or, if refused, none. Moved carts no longer belong to the anonymous customer. A second call moves \
        only what was added after the first.",
    request_body(content = Migration, example = json!({ "anonymousId": "18af7ae9-87f3-4975-9015-7c35a3c9b9e2" })),
    responses(
        (status = 200, description = "The cart `Default` or, if there is none, the cart that was changed last.", body = CartBody),
        CannotMigrate, TooLong,
    )
)]
async fn migrate(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, document: Document) -> Answer {
    if bearer.customer().is_anonymous() {
        return Err(ShopperError::NotSignedIn);
    }
    let Migration { anonymous_id } = document.read()?;
    let from = AnonymousId::parse(&anonymous_id);
    let from = from.ok_or_else(|| ShopperError::BadRow("anonymousId: must be a GUID".into()))?;
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.migrate(from, bearer.customer(), shoppers.clock.now()).await?;
    let carts = carts.map_err(ShopperError::Cart)?;
    let body = match default_cart(&carts) {
        Some(cart) => CartBody::new(cart, bearer.customer()),
        None => CartBody::empty(bearer.customer()),
    };
    permit_body::json(body, permit).await
}

/// The cart that an app shows first: the one with the default name, else the one that was changed last.
fn default_cart(carts: &Carts) -> Option<&Cart> {
    let all = carts.all().iter();
    all.max_by_key(|cart| (cart.name.as_str() == DEFAULT_NAME, cart.changed_at))
}

/// Changes a customer's carts. Returns the result of the change, and the request's permit for its answer.
async fn change<T, F>(
    shoppers: &Shoppers,
    customer: &Customer,
    change: F,
) -> Result<(T, OwnedSemaphorePermit), ShopperError>
where
    T: Send + 'static,
    F: FnOnce(&mut Carts) -> Result<T, CartRefusal> + Send + 'static,
{
    let permit = shoppers.acquire_permit()?;
    let changed = shoppers.commerce.carts.change(customer, shoppers.clock.now(), change).await?;
    changed.map(|result| (result, permit)).map_err(ShopperError::Cart)
}

fn lines(document: &Document) -> Result<Vec<(Option<LineId>, Sku, Quantity)>, ShopperError> {
    let lines: Vec<NewLine> = document.read_all()?;
    let read = |NewLine { id, sku, qty }: NewLine| {
        // 1.0 is a whole number too: some clients write every number with decimals.
        let is_equal = |whole: &u16| qty.as_f64() == Some(f64::from(*whole));
        let quantity = (1..=MAX_QUANTITY).find(is_equal).ok_or(CartRefusal::Quantity)?;
        let quantity = Quantity::new(quantity.into())?;
        let id = id.map(|id| LineId(id.as_u64().unwrap_or(0))); // no line has the id 0
        Ok((id, Sku::parse(&sku)?, quantity))
    };
    lines.into_iter().map(read).collect::<Result<_, CartRefusal>>().map_err(ShopperError::Cart)
}
