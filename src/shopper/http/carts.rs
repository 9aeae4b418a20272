//! `/commerceapi/cart/`: carts in the format of the published client. The connector has no catalogue and no orders:
//! prices are zero, the display name of a line is its SKU, and the members of payments and shipping are empty.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http_body::{Frame, SizeHint};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::customer::{AnonymousId, Customer};
use crate::http::document::Document;
use crate::http::openapi::{Refusals, refusals};
use crate::shopper::carts::rules::{
    Cart, CartId, CartName, CartRefusal, Carts, Currency, Line, LineId, MAX_QUANTITY, Market, Quantity, Sku,
};
use crate::shopper::http::authentication::Shopper;
use crate::shopper::http::{ShopperError, Shoppers, TooLong, with_optional_slash};

type Answer = Result<Response, ShopperError>;

/// The name of a cart that the client opens without a name.
const DEFAULT_NAME: &str = "Default";

/// The size of a chunk that the connection gets, in bytes. It asks for the next chunk only when it has little left to
/// write.
const CHUNK: usize = 16 * 1024;

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

impl NewLine {
    fn read(self) -> Result<(Option<LineId>, Sku, Quantity), CartRefusal> {
        // 1.0 is a whole number too: some clients write every number with decimals.
        let is_equal = |whole: &u16| self.qty.as_f64() == Some(f64::from(*whole));
        let quantity = (1..=MAX_QUANTITY).find(is_equal).ok_or(CartRefusal::Quantity)?;
        let id = self.id.map(|id| LineId(id.as_u64().unwrap_or(0))); // no line has the id 0
        Ok((id, Sku::parse(&self.sku)?, Quantity::new(quantity.into())?))
    }
}

/// The anonymous customer whose carts are moved.
#[derive(Deserialize, ToSchema)]
#[schema(as = CartMigration)]
#[serde(rename_all = "camelCase")]
struct Migration {
    #[schema(format = "uuid")]
    anonymous_id: String,
}

/// A cart.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Cart)]
#[serde(rename_all = "camelCase")]
struct CartBody {
    id: u64,
    name: String,
    customer_id: String,
    market: String,
    currency: CurrencyBody,
    total_price: u8,
    sub_total_price: u8,
    tax_total: u8,
    order_discount_total: u8,
    shipping_total: u8,
    shipping_discount_total: u8,
    shipping_sub_total: u8,
    #[schema(value_type = Vec<Form>, min_items = 1, max_items = 1)]
    forms: [Form; 1],
    #[schema(value_type = Vec<String>, max_items = 0)]
    notes: [(); 0],
}

/// A changed cart. `hasErrors` is always false: an error has its own status.
#[derive(Serialize, ToSchema)]
#[schema(as = CartChange)]
#[serde(rename_all = "camelCase")]
struct CartResponse {
    cart: CartBody,
    has_errors: bool,
    #[schema(value_type = Vec<String>, max_items = 0)]
    errors: [(); 0],
}

/// A currency.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = Currency)]
struct CurrencyBody {
    code: String,
    symbol: String,
}

/// The contents of a cart.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = CartForm)]
#[serde(rename_all = "camelCase")]
struct Form {
    id: u8,
    name: &'static str,
    authorized_payment_total: u8,
    captured_payment_total: u8,
    #[schema(value_type = Vec<String>, max_items = 0)]
    coupons: [(); 0],
    #[schema(value_type = Vec<Shipment>, min_items = 1, max_items = 1)]
    shipments: [Shipment; 1],
    #[schema(value_type = Vec<String>, max_items = 0)]
    promotions: [(); 0],
    #[schema(value_type = Vec<String>, max_items = 0)]
    payments: [(); 0],
}

/// The lines of a cart.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = CartShipment)]
#[serde(rename_all = "camelCase")]
struct Shipment {
    id: u8,
    shipment_tracking_number: &'static str,
    shipping_method_id: &'static str,
    shipping_method_name: &'static str,
    /// Always null.
    #[schema(value_type = Option<String>, required = true)]
    shipping_address: Option<()>,
    shipping_total: u8,
    shipping_discount_price: u8,
    lines: Vec<LineBody>,
}

/// A SKU and its quantity.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = CartLine)]
#[serde(rename_all = "camelCase")]
struct LineBody {
    id: u64,
    sku: String,
    display_name: String,
    qty: u16,
    placed_price: u8,
    discounted_price: u8,
    entry_discount: u8,
    sales_tax: u8,
    total_price: u8,
    image_url: &'static str,
}

impl CartBody {
    fn new(cart: &Cart, owner: &Customer) -> Self {
        let (code, symbol) = (cart.currency.code().to_owned(), cart.currency.symbol().to_owned());
        Self {
            id: cart.id.number(),
            name: cart.name.as_str().to_owned(),
            market: cart.market.as_str().to_owned(),
            currency: CurrencyBody { code, symbol },
            forms: [Form::with_lines(cart.lines.iter().map(LineBody::from).collect())],
            ..Self::empty(owner)
        }
    }

    /// An empty cart for a customer who has none. It is not stored.
    fn empty(owner: &Customer) -> Self {
        // An anonymous id is a secret. It is shown to its owner only.
        let customer_id = match owner {
            Customer::Anonymous(id) => id.expose(),
            Customer::Known { subject, .. } => subject.as_str().to_owned(),
        };
        Self { customer_id, forms: [Form::with_lines(Vec::new())], ..Self::default() }
    }
}

impl Form {
    fn with_lines(lines: Vec<LineBody>) -> Self {
        Self { id: 1, shipments: [Shipment { id: 1, lines, ..Shipment::default() }], ..Self::default() }
    }
}

impl From<&Line> for LineBody {
    fn from(line: &Line) -> Self {
        let sku = line.sku.as_str().to_owned();
        Self { id: line.id.0, display_name: sku.clone(), sku, qty: line.quantity.number(), ..Self::default() }
    }
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
    let carts = shoppers.commerce.carts.get(&bearer.customer, shoppers.clock.now()).await?;
    let bodies: Vec<CartBody> = carts.all().iter().map(|cart| CartBody::new(cart, &bearer.customer)).collect();
    answer(bodies, permit).await
}

/// Get a cart
#[utoipa::path(
    get, path = "/commerceapi/cart/{id}", operation_id = "cart", params(CartParameter),
    responses((status = 200, description = "An array with that cart.", body = Vec<CartBody>), NoSuchCart)
)]
async fn get_cart(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id) -> Answer {
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.get(&bearer.customer, shoppers.clock.now()).await?;
    answer([CartBody::new(carts.find(id)?, &bearer.customer)], permit).await
}

/// Open a cart, or get the existing one with that name and market
#[utoipa::path(
    post, path = "/commerceapi/cart", operation_id = "openCart",
    request_body(content = NewCart, example = json!({ "name": "Default", "market": "DE", "currency": "EUR" })),
    responses((status = 200, description = "The cart.", body = CartBody), CannotOpen, TooLong)
)]
async fn open(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, document: Document) -> Answer {
    let NewCart { name, market, currency } = document.read()?;
    let name = CartName::parse(name.as_deref().unwrap_or(DEFAULT_NAME))?;
    let market = Market::parse(&market)?;
    let currency = match &currency {
        NewCurrency::Code(code) => Currency::new(code, ""),
        NewCurrency::Whole(WholeCurrency { code, symbol }) => Currency::new(code, symbol),
    }?;
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| ShopperError::Internal { reason: "randomness", cause: error.to_string() })?;
    let (id, now) = (CartId::from_random_bytes(bytes), shoppers.clock.now());
    let permit = shoppers.acquire_permit()?;
    let open = move |carts: &mut Carts| carts.open(name, market, currency, id, now).cloned();
    let cart = shoppers.commerce.carts.change(&bearer.customer, now, open).await??;
    answer(CartBody::new(&cart, &bearer.customer), permit).await
}

/// Delete a cart
#[utoipa::path(
    delete, path = "/commerceapi/cart/{id}", operation_id = "deleteCart", params(CartParameter),
    responses((status = 200, description = "The deleted cart.", body = CartResponse), NoSuchCart)
)]
async fn remove(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id) -> Answer {
    change(&shoppers, &bearer.customer, move |carts, _| carts.delete(id)).await
}

/// Add to a cart
#[utoipa::path(
    post, path = "/commerceapi/cart/{id}/lines", operation_id = "addToCart", params(CartParameter),
    request_body(content = Vec<NewLine>, example = json!([{ "sku": "SKU-1", "qty": 2 }])),
    responses((status = 200, description = "The changed cart.", body = CartResponse), BadLines, NoSuchLine, TooLong)
)]
async fn add(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id, document: Document) -> Answer {
    let lines = lines(&document)?.into_iter().map(|(_, sku, quantity)| (sku, quantity)).collect();
    change(&shoppers, &bearer.customer, move |carts, now| carts.add_lines(id, lines, now).cloned()).await
}

/// Set quantities in a cart
#[utoipa::path(
    put, path = "/commerceapi/cart/{id}/lines", operation_id = "setCartLines", params(CartParameter),
    request_body(content = Vec<NewLine>, example = json!([{ "sku": "SKU-1", "qty": 2 }])),
    responses((status = 200, description = "The changed cart.", body = CartResponse), BadLines, NoSuchLine, TooLong)
)]
async fn set(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id, document: Document) -> Answer {
    let lines = lines(&document)?;
    change(&shoppers, &bearer.customer, move |carts, now| carts.set_lines(id, lines, now).cloned()).await
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
    path: Result<Path<(String, String)>, PathRejection>,
) -> Answer {
    let sku = path.ok().and_then(|Path((_, sku))| Sku::parse(&sku).ok()).ok_or(CartRefusal::NoSuchLine)?;
    change(&shoppers, &bearer.customer, move |carts, now| carts.remove_line(id, &sku, now).cloned()).await
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
    if bearer.customer.is_anonymous() {
        return Err(ShopperError::NotSignedIn);
    }
    let Migration { anonymous_id } = document.read()?;
    let from = AnonymousId::parse(&anonymous_id);
    let from = from.ok_or_else(|| ShopperError::BadRow("anonymousId: must be a GUID".into()))?;
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.migrate(from, &bearer.customer, shoppers.clock.now()).await??;
    // The cart that an app shows first.
    let first = carts.all().iter().max_by_key(|cart| (cart.name.as_str() == DEFAULT_NAME, cart.changed_at));
    let body = match first {
        Some(cart) => CartBody::new(cart, &bearer.customer),
        None => CartBody::empty(&bearer.customer),
    };
    answer(body, permit).await
}

/// The lines of a body, to add or to set.
fn lines(document: &Document) -> Result<Vec<(Option<LineId>, Sku, Quantity)>, ShopperError> {
    let lines: Vec<NewLine> = document.read_all()?;
    Ok(lines.into_iter().map(NewLine::read).collect::<Result<_, _>>()?)
}

/// Makes a change that returns the changed cart, and answers with it.
async fn change(
    shoppers: &Shoppers,
    customer: &Customer,
    change: impl FnOnce(&mut Carts, DateTime<Utc>) -> Result<Cart, CartRefusal> + Send + 'static,
) -> Answer {
    let (permit, now) = (shoppers.acquire_permit()?, shoppers.clock.now());
    let cart = shoppers.commerce.carts.change(customer, now, move |carts| change(carts, now)).await??;
    answer(CartResponse { cart: CartBody::new(&cart, customer), has_errors: false, errors: [] }, permit).await
}

/// A 200 with a JSON body. The JSON is written on a blocking thread: carts may be large, and gates share the worker
/// threads.
async fn answer(value: impl Serialize + Send + 'static, permit: OwnedSemaphorePermit) -> Answer {
    let written = spawn_blocking(move || serde_json::to_vec(&value)).await;
    let internal = |cause: String| ShopperError::Internal { reason: "answer_not_written", cause };
    let rest = written.map_err(|error| internal(error.to_string()))?.map_err(|error| internal(error.to_string()))?;
    let body = PermitBody { rest: rest.into(), permit: Some(permit) };
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::new(body)).into_response())
}

/// A response body that holds its request's permit until it is written to the connection. So there are never more such
/// answers in memory than `commerce.max_in_flight`, even if clients do not read them.
struct PermitBody {
    rest: Bytes,
    permit: Option<OwnedSemaphorePermit>,
}

impl HttpBody for PermitBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.rest.is_empty() {
            self.permit = None;
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(CHUNK);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    /// Always false, so that the connection polls again after it has written the last chunk. Only that poll releases
    /// the permit.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
