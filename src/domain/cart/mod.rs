//! What a shopper means to buy: carts, each with a name in a market, and what may be done to them.
//!
//! An owner's carts are one value, [`Carts`]: every change is made to all of it or not at all, and whoever keeps it needs to know no rule.

mod carts;
mod refusal;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

pub use carts::Carts;
pub use refusal::CartRefusal;

/// How many carts an owner may have.
pub const MAX_CARTS: usize = 20;
/// How many lines an owner may have, in all carts together.
pub const MAX_LINES: usize = 2000;
/// How many bytes an owner's carts may take, as the JSON text in which a database keeps them.
pub const MAX_BYTES: usize = 256 * 1024;
/// How much of one SKU a cart may have.
pub const MAX_QUANTITY: u16 = 999;
/// How long after its last change the cart of an anonymous owner ends: at this age it is gone.
pub const ANONYMOUS_LIFETIME: TimeDelta = TimeDelta::days(30);

/// The greatest whole number that JavaScript, and so many an app, can tell from its neighbours.
const MAX_SAFE_NUMBER: u64 = (1 << 53) - 1;

/// What can be bought, by the retailer's name for it: 1 to 100 printable ASCII characters.
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

/// How much of a SKU: 1 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantity(u16);

impl Quantity {
    /// As much as there may be of one SKU.
    pub const MOST: Self = Self(MAX_QUANTITY);

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

    /// Both together.
    fn plus(self, more: Self) -> Result<Self, CartRefusal> {
        let sum = self.0.saturating_add(more.0);
        if sum <= MAX_QUANTITY { Ok(Self(sum)) } else { Err(CartRefusal::TooMuchOfOneSku) }
    }
}

/// The id of a cart, unlike any other of its owner's: 1 to 2⁵³ − 1, so that JavaScript reads it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CartId(u64);

impl CartId {
    /// Takes a number from 1 to 2⁵³ − 1. `None` for any other.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (1..=MAX_SAFE_NUMBER).contains(&number).then_some(Self(number))
    }

    /// The id that these random bytes make.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 8]) -> Self {
        Self((u64::from_be_bytes(bytes) & MAX_SAFE_NUMBER).max(1))
    }

    /// As a number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The next, after the last one the first.
    fn next(self) -> Self {
        Self::new(self.0.saturating_add(1)).unwrap_or(Self(1))
    }
}

/// The id of a line, from 1 on, unlike any other of its cart's. That of a line that is gone may be given to another, which has another SKU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineId(pub u64);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $length:expr, $refusal:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of so many characters without control characters, compared exactly.
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
    /// What an app calls a cart: 1 to 100 characters.
    CartName,
    1..=100,
    Name
);
name!(
    /// Where a cart's prices hold, by the retailer's name for it: 1 to 50 characters.
    Market,
    1..=50,
    Market
);

/// What a cart is paid in.
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

/// Whether a text has so many characters, none of them a control character: PostgreSQL could not keep U+0000.
fn is_plain(text: &str, length: RangeInclusive<usize>) -> bool {
    length.contains(&text.chars().count()) && !text.chars().any(char::is_control)
}

/// So much of a SKU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What tells it apart in its cart.
    pub id: LineId,
    /// Of what; no other line of the cart has it.
    pub sku: Sku,
    /// How much.
    pub quantity: Quantity,
}

/// A cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    /// What tells it apart among its owner's.
    pub id: CartId,
    /// What an app calls it. Together with the market it, too, tells the cart apart.
    pub name: CartName,
    /// Where its prices hold.
    pub market: Market,
    /// What it is paid in.
    pub currency: Currency,
    /// What is in it, in the order in which it came.
    pub lines: Vec<Line>,
    /// When it was opened, or its lines last changed.
    pub changed_at: DateTime<Utc>,
}
