//! All carts of one owner, and the changes that can be made to them.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::shopper::carts::rules::{
    ANONYMOUS_LIFETIME, Cart, CartId, CartName, CartRefusal, Currency, Line, LineId, MAX_BYTES, MAX_CARTS, MAX_LINES,
    Market, Quantity, Sku,
};

type Result<T> = std::result::Result<T, CartRefusal>;

/// All carts of one owner. A refused change changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carts(Vec<Cart>);

impl Carts {
    /// Takes carts that were stored. The limits are not checked, since another release may have stored them under other
    /// limits.
    ///
    /// `None` if two carts have the same id, or the same name and market, or if two lines of a cart have the same id or SKU.
    #[must_use]
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
    #[must_use]
    pub fn all(&self) -> &[Cart] {
        &self.0
    }

    /// Whether there are no carts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An upper bound for the bytes of JSON text that the carts take, which [`MAX_BYTES`] limits.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Cart::bytes).fold(0, usize::saturating_add)
    }

    /// The time of the latest change of any cart; `None` if there are no carts.
    #[must_use]
    pub fn changed_at(&self) -> Option<DateTime<Utc>> {
        self.0.iter().map(|cart| cart.changed_at).max()
    }

    /// The existing cart with this name and market, unchanged, or a new one. `id` is for a new cart; if another cart
    /// has that id, the new cart gets the next free one.
    ///
    /// # Errors
    /// When a new cart would exceed a limit of the owner.
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
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, id: CartId) -> Result<&Cart> {
        self.0.iter().find(|cart| cart.id == id).ok_or(CartRefusal::NoSuchCart)
    }

    /// Removes the cart with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&mut self, id: CartId) -> Result<Cart> {
        let index = self.0.iter().position(|cart| cart.id == id);
        index.map(|index| self.0.remove(index)).ok_or(CartRefusal::NoSuchCart)
    }

    /// Adds lines to a cart. Quantities of one SKU add up.
    ///
    /// # Errors
    /// When there is no such cart, or a limit of the owner would be exceeded.
    pub fn add_lines(&mut self, id: CartId, lines: Vec<(Sku, Quantity)>, now: DateTime<Utc>) -> Result<&Cart> {
        self.change_within_limits(|carts| {
            carts.cart_mut(id)?.change_lines(now, |own| add(own, lines, Quantity::plus))
        })?;
        self.find(id)
    }

    /// Sets the quantities of existing lines. A line is found by its id if an id is given, and must have this SKU;
    /// otherwise by its SKU. If a line is given more than once, the last quantity is used.
    ///
    /// # Errors
    /// When there is no such cart, or it has no such line.
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
    ///
    /// # Errors
    /// When there is no such cart, or it has no line of this SKU.
    pub fn remove_line(&mut self, id: CartId, sku: &Sku, now: DateTime<Utc>) -> Result<&Cart> {
        let cart = self.cart_mut(id)?;
        cart.change_lines(now, |own| {
            let index = own.iter().position(|line| line.sku == *sku).ok_or(CartRefusal::NoSuchLine)?;
            own.remove(index);
            Ok(())
        })?;
        Ok(cart)
    }

    /// Merges the carts that the same person had as another owner, such as an anonymous customer. For carts with the same name and market, the
    /// quantities of one SKU add up, to at most [`MAX_QUANTITY`](crate::shopper::carts::rules::MAX_QUANTITY), and this owner's currency and
    /// cart id are kept. The other carts are moved unchanged; if a cart here has the id of a moved cart, the moved cart
    /// gets the next free id.
    ///
    /// # Errors
    /// When the merged carts would exceed a limit of the owner.
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
    #[must_use]
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

fn all_differ<T: Eq + std::hash::Hash>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.all(|item| seen.insert(item))
}
