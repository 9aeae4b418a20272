//! Carts of a shopper: each has a name and a market. This module has the rules for changing them.
//!
//! All carts of one owner are one value, [`Carts`]. A change is made completely or not at all, so the store that keeps
//! the carts needs no rules of its own.

mod carts;
mod refusal;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

pub use carts::Carts;
pub use refusal::CartRefusal;

/// The maximum number of carts of an owner.
pub(crate) const MAX_CARTS: usize = 20;
/// The maximum number of lines of an owner, in all carts together.
pub(crate) const MAX_LINES: usize = 2000;
/// The maximum size of an owner's carts in bytes, as the JSON text in which a database stores them.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// The largest quantity of one SKU in a cart.
pub(crate) const MAX_QUANTITY: u16 = 999;
/// How long after its last change the cart of an anonymous owner expires. At exactly this age it is expired.
pub(crate) const ANONYMOUS_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The largest integer that JavaScript, and therefore many apps, can read exactly.
const MAX_SAFE_NUMBER: u64 = (1 << 53) - 1;

/// The retailer's id of a product: 1 to 100 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sku(Arc<str>);

impl Sku {
    /// Takes 1 to 100 characters from U+0020 to U+007E, compared exactly.
    ///
    /// # Errors
    /// For anything else.
    pub fn parse(text: &str) -> Result<Self, CartRefusal> {
        let is_sku = (1..=100).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7E));
        if is_sku { Ok(Self(text.into())) } else { Err(CartRefusal::Sku) }
    }

    /// The text as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The quantity of a SKU: 1 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantity(u16);

impl Quantity {
    /// The largest quantity of one SKU.
    pub const MAX: Self = Self(MAX_QUANTITY);

    /// Takes a number from 1 to 999.
    ///
    /// # Errors
    /// For anything else.
    pub fn new(number: u64) -> Result<Self, CartRefusal> {
        let number = u16::try_from(number).ok().filter(|number| (1..=MAX_QUANTITY).contains(number));
        number.map(Self).ok_or(CartRefusal::Quantity)
    }

    /// As a number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The sum, if it is not more than [`MAX_QUANTITY`].
    fn plus(self, more: Self) -> Result<Self, CartRefusal> {
        let sum = self.0.saturating_add(more.0);
        if sum <= MAX_QUANTITY { Ok(Self(sum)) } else { Err(CartRefusal::TooMuchOfOneSku) }
    }
}

/// The id of a cart, unique among its owner's carts: 1 to 2⁵³ − 1, so that JavaScript reads it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CartId(u64);

impl CartId {
    /// Takes a number from 1 to 2⁵³ − 1. `None` for any other.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (1..=MAX_SAFE_NUMBER).contains(&number).then_some(Self(number))
    }

    /// The id made from these random bytes.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 8]) -> Self {
        Self((u64::from_be_bytes(bytes) & MAX_SAFE_NUMBER).max(1))
    }

    /// As a number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The next id; after the largest id comes 1.
    fn next(self) -> Self {
        Self::new(self.0.saturating_add(1)).unwrap_or(Self(1))
    }
}

/// The id of a line, unique in its cart, starting at 1. The id of a removed line may be given to a new line with
/// another SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineId(pub u64);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $length:expr, $refusal:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of the permitted length without control characters. Texts are compared exactly.
            ///
            /// # Errors
            /// For anything else.
            pub fn parse(text: &str) -> Result<Self, CartRefusal> {
                if is_plain(text, $length) { Ok(Self(text.into())) } else { Err(CartRefusal::$refusal) }
            }

            /// The text as it was given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// The name that an app gives a cart: 1 to 100 characters.
    CartName,
    1..=100,
    Name
);
name!(
    /// The retailer's id of the market whose prices apply to a cart: 1 to 50 characters.
    Market,
    1..=50,
    Market
);

/// The currency of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency {
    code: Arc<str>,
    symbol: Arc<str>,
}

impl Currency {
    /// Takes a code of 1 to 10 characters and a symbol of at most 10, none of them a control character.
    ///
    /// # Errors
    /// For anything else.
    pub fn new(code: &str, symbol: &str) -> Result<Self, CartRefusal> {
        let is_currency = is_plain(code, 1..=10) && is_plain(symbol, 0..=10);
        if is_currency { Ok(Self { code: code.into(), symbol: symbol.into() }) } else { Err(CartRefusal::Currency) }
    }

    /// Such as `EUR`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Such as `€`; may be empty.
    #[must_use]
    pub fn symbol(&self) -> &str {
        &self.symbol
    }
}

/// Whether a text has the permitted length and no control character. PostgreSQL could not store U+0000.
fn is_plain(text: &str, length: RangeInclusive<usize>) -> bool {
    length.contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// A line of a cart: a SKU and its quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The id, unique in the cart.
    pub id: LineId,
    /// The SKU; no other line of the cart has it.
    pub sku: Sku,
    /// The quantity.
    pub quantity: Quantity,
}

/// A cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    /// The id, unique among the owner's carts.
    pub id: CartId,
    /// The name that an app gave it. Name and market together are also unique among the owner's carts.
    pub name: CartName,
    /// The market whose prices apply.
    pub market: Market,
    /// The currency.
    pub currency: Currency,
    /// The lines, in the order in which they were added.
    pub lines: Vec<Line>,
    /// When the cart was opened or its lines last changed.
    pub changed_at: DateTime<Utc>,
}
