//! `/commerceapi/cart/`: carts in the format of the published client. The connector has no catalogue: prices are zero,
//! and the display name of a line is its SKU.

use std::fmt;

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::cart_wire::{CartBody, CartResponse};
use super::credentials::Shopper;
use super::{ShopperError, Shoppers, permit_body, with_optional_slash};
use crate::domain::cart::{
    Cart, CartId, CartName, CartRefusal, Carts, Currency, LineId, MAX_QUANTITY, Market, Quantity, Sku,
};
use crate::domain::customer::{AnonymousId, Customer};
use crate::http::document::Document;

type Answer = Result<Response, ShopperError>;

/// The name of a cart that the client opens without a name.
const DEFAULT_NAME: &str = "Default";

pub(super) fn routes() -> Router<Shoppers> {
    with_optional_slash("/commerceapi/cart", get(list).post(open))
        .merge(with_optional_slash("/commerceapi/cart/migrate", post(migrate)))
        .merge(with_optional_slash("/commerceapi/cart/{id}", get(get_cart).delete(remove)))
        .merge(with_optional_slash("/commerceapi/cart/{id}/lines", post(add).put(set)))
        .merge(with_optional_slash("/commerceapi/cart/{id}/lines/{sku}", delete(remove_line)))
}

#[derive(Deserialize)]
struct NewCart {
    name: Option<String>,
    market: String,
    currency: NewCurrency,
}

/// A currency: its code alone, as the client sends it, or an object as in answers.
enum NewCurrency {
    Code(String),
    Whole(WholeCurrency),
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

#[derive(Deserialize)]
struct WholeCurrency {
    code: String,
    #[serde(default)]
    symbol: String,
}

#[derive(Deserialize)]
struct NewLine {
    /// The id of an existing line. For a new line, apps send any other value, such as -1.
    id: Option<Value>,
    sku: String,
    /// Any JSON value, so that a bad quantity gets the message about quantities.
    qty: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Migration {
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

async fn list(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper) -> Answer {
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.get(bearer.customer(), shoppers.clock.now()).await?;
    let bodies: Vec<CartBody> = carts.all().iter().map(|cart| CartBody::new(cart, bearer.customer())).collect();
    permit_body::json(bodies, permit).await
}

async fn get_cart(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id) -> Answer {
    let permit = shoppers.acquire_permit()?;
    let carts = shoppers.commerce.carts.get(bearer.customer(), shoppers.clock.now()).await?;
    let cart = carts.find(id).map_err(ShopperError::Cart)?;
    permit_body::json([CartBody::new(cart, bearer.customer())], permit).await
}

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

async fn remove(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id) -> Answer {
    let (cart, permit) = change(&shoppers, bearer.customer(), move |carts| carts.delete(id)).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

async fn add(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id, document: Document) -> Answer {
    let lines = lines(&document)?.into_iter().map(|(_, sku, quantity)| (sku, quantity)).collect();
    let now = shoppers.clock.now();
    let (cart, permit) =
        change(&shoppers, bearer.customer(), move |carts| carts.add_lines(id, lines, now).cloned()).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

async fn set(State(shoppers): State<Shoppers>, Shopper(bearer): Shopper, Id(id): Id, document: Document) -> Answer {
    let (lines, now) = (lines(&document)?, shoppers.clock.now());
    let (cart, permit) =
        change(&shoppers, bearer.customer(), move |carts| carts.set_lines(id, lines, now).cloned()).await?;
    permit_body::json(CartResponse::new(&cart, bearer.customer()), permit).await
}

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
