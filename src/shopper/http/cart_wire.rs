//! Carts in the format of the published client. The connector has no prices and no orders, so those members are zero or
//! empty.

use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::customer::Customer;
use crate::shopper::carts::rules::{Cart, Line};

/// A cart.
#[derive(Serialize, ToSchema)]
#[schema(as = Cart)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CartBody {
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
pub(crate) struct CartResponse {
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
#[derive(Serialize, ToSchema)]
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
    pub(crate) fn new(cart: &Cart, owner: &Customer) -> Self {
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
    pub(crate) fn empty(owner: &Customer) -> Self {
        Self {
            id: 0,
            name: String::new(),
            // An anonymous id is a secret. It is shown to its owner only.
            customer_id: match owner {
                Customer::Anonymous(id) => id.expose(),
                Customer::Known { subject, .. } => subject.as_str().to_owned(),
            },
            market: String::new(),
            currency: CurrencyBody::default(),
            total_price: 0,
            sub_total_price: 0,
            tax_total: 0,
            order_discount_total: 0,
            shipping_total: 0,
            shipping_discount_total: 0,
            shipping_sub_total: 0,
            forms: [Form::with_lines(Vec::new())],
            notes: [],
        }
    }
}

impl CartResponse {
    pub(crate) fn new(cart: &Cart, owner: &Customer) -> Self {
        Self { cart: CartBody::new(cart, owner), has_errors: false, errors: [] }
    }
}

impl Form {
    fn with_lines(lines: Vec<LineBody>) -> Self {
        Self { id: 1, shipments: [Shipment { id: 1, lines, ..Shipment::default() }], ..Self::default() }
    }
}

impl From<&Line> for LineBody {
    fn from(line: &Line) -> Self {
        Self {
            id: line.id.0,
            sku: line.sku.as_str().to_owned(),
            display_name: line.sku.as_str().to_owned(),
            qty: line.quantity.number(),
            placed_price: 0,
            discounted_price: 0,
            entry_discount: 0,
            sales_tax: 0,
            total_price: 0,
            image_url: "",
        }
    }
}
