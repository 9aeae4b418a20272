//! Carts of a shopper: each has a name and a market. This module has the rules for changing them.
//!
//! All carts of one owner are one value, [`Carts`]. A change is made completely or not at all, so the store that keeps
//! the carts needs no rules of its own.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

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

type Result<T, E = CartRefusal> = std::result::Result<T, E>;

/// The reason why a change to carts is refused. The message tells the client what is wrong and what to do. A refused
/// change changes nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.message())]
pub enum CartRefusal {
    /// The text is not a SKU.
    Sku,
    /// The number is not a quantity.
    Quantity,
    /// The text is not a name of a cart.
    Name,
    /// The text is not a market.
    Market,
    /// The texts are not a currency.
    Currency,
    /// The owner has no such cart.
    NoSuchCart,
    /// The cart has no such line.
    NoSuchLine,
    /// There would be more than [`MAX_CARTS`] carts.
    TooManyCarts,
    /// There would be more than [`MAX_LINES`] lines.
    TooManyLines,
    /// The carts would take more than [`MAX_BYTES`].
    TooManyBytes,
    /// A cart would have more than [`MAX_QUANTITY`] of one SKU.
    TooMuchOfOneSku,
    /// The store already has the maximum number of owners.
    Full,
}

impl CartRefusal {
    /// The stable identifier in logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoSuchCart => "no_such_cart",
            Self::NoSuchLine => "no_such_line",
            Self::Full => "carts_full",
            Self::TooManyCarts | Self::TooManyLines | Self::TooManyBytes => "cart_limit",
            _ => "bad_cart",
        }
    }

    /// The message as a constant text. It is also sent in the HTTP status line, which must not contain text from the
    /// client.
    pub fn message(self) -> &'static str {
        match self {
            Self::Sku => "a SKU is 1 to 100 printable ASCII characters, U+0020 to U+007E",
            Self::Quantity => "a quantity is a whole number from 1 to 999",
            Self::Name => "a cart's name is 1 to 100 characters, none of them a control character",
            Self::Market => "a market is 1 to 50 characters, none of them a control character",
            Self::Currency => {
                "a currency is a code of 1 to 10 characters and a symbol of up to 10, none of them a control character"
            }
            Self::NoSuchCart => "there is no cart of this id: open one, or use the id of one that is there",
            Self::NoSuchLine => {
                "the cart has no such line: add the SKU first, or give the id of a line together with the SKU that is on it"
            }
            Self::TooManyCarts => "there would be more than 20 carts: delete one first",
            Self::TooManyLines => "the carts would have more than 2000 lines in all: remove some first",
            Self::TooManyBytes => "the carts would take more than 256 KB in all: remove some lines first",
            Self::TooMuchOfOneSku => "a cart would have more than 999 of one SKU: ask for less of it",
            Self::Full => "the maximum number of carts is stored at the moment: try again later",
        }
    }
}

/// The quantity of a SKU: 1 to 999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Quantity(u16);

impl Quantity {
    /// The largest quantity of one SKU.
    pub const MAX: Self = Self(MAX_QUANTITY);

    /// Takes a number from 1 to 999, and refuses any other.
    pub fn new(number: u64) -> Result<Self> {
        let number = u16::try_from(number).ok().filter(|number| (1..=MAX_QUANTITY).contains(number));
        number.map(Self).ok_or(CartRefusal::Quantity)
    }

    /// As a number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The sum, if it is not more than [`MAX_QUANTITY`].
    fn plus(self, more: Self) -> Result<Self> {
        let sum = self.0.saturating_add(more.0);
        if sum <= MAX_QUANTITY { Ok(Self(sum)) } else { Err(CartRefusal::TooMuchOfOneSku) }
    }
}

/// The id of a cart, unique among its owner's carts: 1 to 2⁵³ − 1, so that JavaScript reads it exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CartId(u64);

impl CartId {
    /// Takes a number from 1 to 2⁵³ − 1. `None` for any other.
    pub fn new(number: u64) -> Option<Self> {
        (1..=MAX_SAFE_NUMBER).contains(&number).then_some(Self(number))
    }

    /// The id made from these random bytes.
    pub fn from_random_bytes(bytes: [u8; 8]) -> Self {
        Self((u64::from_be_bytes(bytes) & MAX_SAFE_NUMBER).max(1))
    }

    /// As a number.
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

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $refusal:ident, $is_valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a valid text, and refuses any other. Texts are compared exactly.
            pub fn parse(text: &str) -> Result<Self> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if is_valid(text) { Ok(Self(text.into())) } else { Err(CartRefusal::$refusal) }
            }

            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

text!(
    /// The retailer's id of a product: 1 to 100 characters from U+0020 to U+007E.
    Sku,
    Sku,
    |text| (1..=100).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, 0x20..=0x7E))
);
text!(
    /// The name that an app gives a cart: 1 to 100 characters.
    CartName,
    Name,
    |text| is_plain(text, 1..=100)
);
text!(
    /// The retailer's id of the market whose prices apply to a cart: 1 to 50 characters.
    Market,
    Market,
    |text| is_plain(text, 1..=50)
);

/// The currency of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Currency {
    code: Arc<str>,
    symbol: Arc<str>,
}

impl Currency {
    /// Takes a code of 1 to 10 characters and a symbol of at most 10, and refuses control characters.
    pub fn new(code: &str, symbol: &str) -> Result<Self> {
        let is_currency = is_plain(code, 1..=10) && is_plain(symbol, 0..=10);
        if is_currency { Ok(Self { code: code.into(), symbol: symbol.into() }) } else { Err(CartRefusal::Currency) }
    }

    /// Such as `EUR`.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Such as `€`; may be empty.
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
    pub currency: Currency,
    /// The lines, in the order in which they were added.
    pub lines: Vec<Line>,
    /// When the cart was opened or its lines last changed.
    pub changed_at: DateTime<Utc>,
}

/// All carts of one owner. A refused change changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carts(Vec<Cart>);

impl Carts {
    /// Takes carts that were stored. The limits are not checked, since another release may have stored them under other
    /// limits.
    ///
    /// `None` if two carts have the same id, or the same name and market, or if two lines of a cart have the same id or
    /// SKU.
    pub fn from_stored(carts: Vec<Cart>) -> Option<Self> {
        let names = carts.iter().map(|cart| (&cart.name, &cart.market));
        let are_distinct = all_differ(carts.iter().map(|cart| cart.id)) && all_differ(names);
        let mut lines = carts.iter().map(|cart| &cart.lines);
        let have_distinct_lines = lines.all(|lines| {
            all_differ(lines.iter().map(|line| line.id)) && all_differ(lines.iter().map(|line| &line.sku))
        });
        (are_distinct && have_distinct_lines).then_some(Self(carts))
    }

    /// All carts, in the order in which they were added.
    pub fn all(&self) -> &[Cart] {
        &self.0
    }

    /// Whether there are no carts.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An upper bound for the bytes of JSON text that the carts take, which [`MAX_BYTES`] limits.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Cart::bytes).fold(0, usize::saturating_add)
    }

    /// The time of the latest change of any cart; `None` if there are no carts.
    pub fn changed_at(&self) -> Option<DateTime<Utc>> {
        self.0.iter().map(|cart| cart.changed_at).max()
    }

    /// The existing cart with this name and market, unchanged, or a new one. `id` is for a new cart; if another cart
    /// has that id, the new cart gets the next free one.
    pub fn open(
        &mut self,
        name: CartName,
        market: Market,
        currency: Currency,
        id: CartId,
        now: DateTime<Utc>,
    ) -> Result<&Cart> {
        if let Some(index) = self.0.iter().position(|cart| cart.has_name_and_market(&name, &market)) {
            return self.0.get(index).ok_or(CartRefusal::NoSuchCart);
        }
        self.change_within_limits(|carts| {
            carts.insert(Cart { id, name, market, currency, lines: Vec::new(), changed_at: now });
            Ok(())
        })?;
        self.0.last().ok_or(CartRefusal::NoSuchCart)
    }

    /// The cart with this id.
    pub fn find(&self, id: CartId) -> Result<&Cart> {
        self.0.iter().find(|cart| cart.id == id).ok_or(CartRefusal::NoSuchCart)
    }

    /// Removes the cart with this id.
    pub fn delete(&mut self, id: CartId) -> Result<Cart> {
        let index = self.0.iter().position(|cart| cart.id == id);
        index.map(|index| self.0.remove(index)).ok_or(CartRefusal::NoSuchCart)
    }

    /// Adds lines to a cart. Quantities of one SKU add up.
    pub fn add_lines(&mut self, id: CartId, lines: Vec<(Sku, Quantity)>, now: DateTime<Utc>) -> Result<&Cart> {
        self.change_within_limits(|carts| {
            carts.cart_mut(id)?.change_lines(now, |own| add(own, lines, Quantity::plus))
        })?;
        self.find(id)
    }

    /// Sets the quantities of existing lines. A line is found by its id if an id is given, and must have this SKU;
    /// otherwise by its SKU. If a line is given more than once, the last quantity is used.
    pub fn set_lines(
        &mut self,
        id: CartId,
        lines: Vec<(Option<LineId>, Sku, Quantity)>,
        now: DateTime<Utc>,
    ) -> Result<&Cart> {
        let cart = self.cart_mut(id)?;
        cart.change_lines(now, |own| {
            let line_indexes = line_indexes(own);
            lines.into_iter().try_for_each(|(id, sku, quantity)| {
                let line = line_indexes.get(&sku).and_then(|index| own.get_mut(*index));
                let line = line.filter(|line| id.is_none_or(|id| line.id == id)).ok_or(CartRefusal::NoSuchLine)?;
                line.quantity = quantity;
                Ok(())
            })
        })?;
        Ok(cart)
    }

    /// Removes the line of a SKU from a cart.
    pub fn remove_line(&mut self, id: CartId, sku: &Sku, now: DateTime<Utc>) -> Result<&Cart> {
        let cart = self.cart_mut(id)?;
        cart.change_lines(now, |own| {
            let index = own.iter().position(|line| line.sku == *sku).ok_or(CartRefusal::NoSuchLine)?;
            own.remove(index);
            Ok(())
        })?;
        Ok(cart)
    }

    /// Merges the carts that the same person had as another owner, such as an anonymous customer. For carts with the
    /// same name and market, the quantities of one SKU add up, to at most [`MAX_QUANTITY`], and this owner's currency
    /// and cart id are kept. The other carts are moved unchanged; if a cart here has the id of a moved cart, the moved
    /// cart gets the next free id.
    pub fn merge(&mut self, other: Self, now: DateTime<Utc>) -> Result<()> {
        self.change_within_limits(|carts| {
            for cart in other.0 {
                match carts.0.iter_mut().find(|own| own.has_name_and_market(&cart.name, &cart.market)) {
                    Some(own) => own.change_lines(now, |own| {
                        let more = cart.lines.into_iter().map(|line| (line.sku, line.quantity));
                        add(own, more, |own, more| Ok(own.plus(more).unwrap_or(Quantity::MAX)))
                    })?,
                    None => carts.insert(cart),
                }
            }
            Ok(())
        })
    }

    /// Removes the expired carts of an anonymous owner: each expires [`ANONYMOUS_LIFETIME`] after its last change.
    pub fn without_expired(mut self, now: DateTime<Utc>) -> Self {
        self.0.retain(|cart| now.signed_duration_since(cart.changed_at) < ANONYMOUS_LIFETIME);
        self
    }

    fn cart_mut(&mut self, id: CartId) -> Result<&mut Cart> {
        self.0.iter_mut().find(|cart| cart.id == id).ok_or(CartRefusal::NoSuchCart)
    }

    /// Applies `change` if it succeeds and exceeds no limit. Otherwise nothing changes.
    fn change_within_limits(&mut self, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut after = self.clone();
        change(&mut after)?;
        let lines: usize = after.0.iter().map(|cart| cart.lines.len()).sum();
        if after.0.len() > MAX_CARTS {
            Err(CartRefusal::TooManyCarts)
        } else if lines > MAX_LINES {
            Err(CartRefusal::TooManyLines)
        } else if after.bytes() > MAX_BYTES {
            Err(CartRefusal::TooManyBytes)
        } else {
            *self = after;
            Ok(())
        }
    }

    /// Adds a cart whose name and market no other cart has, under the next free id if its own is in use.
    fn insert(&mut self, mut cart: Cart) {
        while self.find(cart.id).is_ok() {
            cart.id = cart.id.next();
        }
        self.0.push(cart);
    }
}

impl Cart {
    fn has_name_and_market(&self, name: &CartName, market: &Market) -> bool {
        self.name == *name && self.market == *market
    }

    /// Applies `change` to the lines. If it is refused, the lines stay unchanged.
    fn change_lines(&mut self, now: DateTime<Utc>, change: impl FnOnce(&mut Vec<Line>) -> Result<()>) -> Result<()> {
        let mut lines = self.lines.clone();
        change(&mut lines)?;
        if lines != self.lines {
            self.lines = lines;
            self.changed_at = now;
        }
        Ok(())
    }

    /// An upper bound for the bytes of JSON text that the cart takes, names of members and numbers included.
    fn bytes(&self) -> usize {
        const CART: usize = 130;
        const LINE: usize = 60;
        let texts = [self.name.as_str(), self.market.as_str(), self.currency.code(), self.currency.symbol()];
        let lines = self.lines.iter().map(|line| json_length(line.sku.as_str()).saturating_add(LINE));
        texts.into_iter().map(json_length).chain(lines).fold(CART, usize::saturating_add)
    }
}

/// The bytes in JSON of a text without control characters, not counting its quotes.
fn json_length(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    text.len().saturating_add(escaped)
}

/// The index of each SKU's line.
fn line_indexes(lines: &[Line]) -> HashMap<Sku, usize> {
    lines.iter().enumerate().map(|(index, line)| (line.sku.clone(), index)).collect()
}

/// Adds quantities to existing lines, combined by `sum`, and adds new lines for other SKUs.
fn add(
    lines: &mut Vec<Line>,
    more: impl IntoIterator<Item = (Sku, Quantity)>,
    sum: impl Fn(Quantity, Quantity) -> Result<Quantity>,
) -> Result<()> {
    let mut line_indexes = line_indexes(lines);
    let taken: HashSet<u64> = lines.iter().map(|line| line.id.0).collect();
    let mut free = (1..).filter(|id| !taken.contains(id)).map(LineId);
    for (sku, quantity) in more {
        if let Some(line) = line_indexes.get(&sku).and_then(|index| lines.get_mut(*index)) {
            line.quantity = sum(line.quantity, quantity)?;
        } else {
            let id = free.next().ok_or(CartRefusal::TooManyLines)?;
            line_indexes.insert(sku.clone(), lines.len());
            lines.push(Line { id, sku, quantity });
        }
    }
    Ok(())
}

fn all_differ<T: Eq + Hash>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.all(|item| seen.insert(item))
}
