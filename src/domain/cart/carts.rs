//! All carts of one owner, and what may be done to them.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{
    ANONYMOUS_LIFETIME, Cart, CartId, CartName, CartRefusal, Currency, Line, LineId, MAX_BYTES, MAX_CARTS, MAX_LINES,
    Market, Quantity, Sku,
};

type Result<T> = std::result::Result<T, CartRefusal>;

/// All carts of one owner. What is refused changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carts(Vec<Cart>);

impl Carts {
    /// Those that were kept. The limits are not looked at: whoever kept them may have known others.
    ///
    /// `None` when two of them, or two lines of one, cannot be told apart.
    #[must_use]
    pub fn from_kept(carts: Vec<Cart>) -> Option<Self> {
        let names = carts.iter().map(|cart| (&cart.name, &cart.market));
        let are_distinct = all_differ(carts.iter().map(|cart| cart.id)) && all_differ(names);
        let mut lines = carts.iter().map(|cart| &cart.lines);
        let have_distinct_lines = lines.all(|lines| {
            all_differ(lines.iter().map(|line| line.id)) && all_differ(lines.iter().map(|line| &line.sku))
        });
        (are_distinct && have_distinct_lines).then_some(Self(carts))
    }

    /// All of them, in the order in which they came.
    #[must_use]
    pub fn all(&self) -> &[Cart] {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes of JSON text they take at most: what [`MAX_BYTES`] bounds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.iter().map(Cart::bytes).fold(0, usize::saturating_add)
    }

    /// When one of them last changed.
    #[must_use]
    pub fn changed_at(&self) -> Option<DateTime<Utc>> {
        self.0.iter().map(|cart| cart.changed_at).max()
    }

    /// The cart of that name and market as it is, or else a new one. `id` is for the new one; should another cart have it, the new one
    /// gets the next that is free.
    ///
    /// # Errors
    /// When a new one would exceed what an owner may have.
    pub fn open(
        &mut self,
        name: CartName,
        market: Market,
        currency: Currency,
        id: CartId,
        now: DateTime<Utc>,
    ) -> Result<&Cart> {
        if let Some(place) = self.0.iter().position(|cart| cart.is_called(&name, &market)) {
            return self.0.get(place).ok_or(CartRefusal::NoSuchCart);
        }
        self.grow(|carts| {
            carts.keep(Cart { id, name, market, currency, lines: Vec::new(), changed_at: now });
            Ok(())
        })?;
        self.0.last().ok_or(CartRefusal::NoSuchCart)
    }

    /// The cart of that id.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, id: CartId) -> Result<&Cart> {
        self.0.iter().find(|cart| cart.id == id).ok_or(CartRefusal::NoSuchCart)
    }

    /// Takes the cart of that id away.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&mut self, id: CartId) -> Result<Cart> {
        let place = self.0.iter().position(|cart| cart.id == id);
        place.map(|place| self.0.remove(place)).ok_or(CartRefusal::NoSuchCart)
    }

    /// Puts more into a cart: quantities of one SKU add up.
    ///
    /// # Errors
    /// When there is no such cart, or it would exceed what an owner may have.
    pub fn add_lines(&mut self, id: CartId, lines: Vec<(Sku, Quantity)>, now: DateTime<Utc>) -> Result<&Cart> {
        self.grow(|carts| carts.cart_mut(id)?.alter(now, |own| add(own, lines, Quantity::plus)))?;
        self.find(id)
    }

    /// Sets how much there is of what a cart has. A line is found by its id where that is given, and must have this SKU; else by its SKU.
    /// Of several for one line the last one holds.
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
        cart.alter(now, |own| {
            let places = places(own);
            lines.into_iter().try_for_each(|(id, sku, quantity)| {
                let line = places.get(&sku).and_then(|place| own.get_mut(*place));
                let line = line.filter(|line| id.is_none_or(|id| line.id == id)).ok_or(CartRefusal::NoSuchLine)?;
                line.quantity = quantity;
                Ok(())
            })
        })?;
        Ok(cart)
    }

    /// Takes all there is of a SKU out of a cart.
    ///
    /// # Errors
    /// When there is no such cart, or it has none of it.
    pub fn remove_line(&mut self, id: CartId, sku: &Sku, now: DateTime<Utc>) -> Result<&Cart> {
        let cart = self.cart_mut(id)?;
        cart.alter(now, |own| {
            let place = own.iter().position(|line| line.sku == *sku).ok_or(CartRefusal::NoSuchLine)?;
            own.remove(place);
            Ok(())
        })?;
        Ok(cart)
    }

    /// Takes in the carts of another owner, who is the same person. Of carts of one name and market the quantities of one SKU add up, to
    /// [`MAX_QUANTITY`](super::MAX_QUANTITY) at most, and currency and id stay what they are here; the others move over whole. Should a
    /// cart here have the id of one that moves, that one gets the next that is free.
    ///
    /// # Errors
    /// When both together would exceed what an owner may have.
    pub fn merge(&mut self, other: Self, now: DateTime<Utc>) -> Result<()> {
        self.grow(|carts| {
            for cart in other.0 {
                match carts.0.iter_mut().find(|own| own.is_called(&cart.name, &cart.market)) {
                    Some(own) => own.alter(now, |own| {
                        let more = cart.lines.into_iter().map(|line| (line.sku, line.quantity));
                        add(own, more, |own, more| Ok(own.plus(more).unwrap_or(Quantity::MOST)))
                    })?,
                    None => carts.keep(cart),
                }
            }
            Ok(())
        })
    }

    /// What is left of an anonymous owner's: each cart ends [`ANONYMOUS_LIFETIME`] after its last change.
    #[must_use]
    pub fn without_expired(mut self, now: DateTime<Utc>) -> Self {
        self.0.retain(|cart| now.signed_duration_since(cart.changed_at) < ANONYMOUS_LIFETIME);
        self
    }

    fn cart_mut(&mut self, id: CartId) -> Result<&mut Cart> {
        self.0.iter_mut().find(|cart| cart.id == id).ok_or(CartRefusal::NoSuchCart)
    }

    /// Makes a change that may need more room: all of it, or none where it fails or exceeds what an owner may have.
    fn grow(&mut self, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
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

    /// Takes in a cart whose name and market no other has.
    fn keep(&mut self, mut cart: Cart) {
        while self.find(cart.id).is_ok() {
            cart.id = cart.id.next();
        }
        self.0.push(cart);
    }
}

impl Cart {
    fn is_called(&self, name: &CartName, market: &Market) -> bool {
        self.name == *name && self.market == *market
    }

    /// Changes the lines as a whole or, when it is refused, not at all.
    fn alter(&mut self, now: DateTime<Utc>, change: impl FnOnce(&mut Vec<Line>) -> Result<()>) -> Result<()> {
        let mut lines = self.lines.clone();
        change(&mut lines)?;
        if lines != self.lines {
            self.lines = lines;
            self.changed_at = now;
        }
        Ok(())
    }

    /// How many bytes of JSON text it takes, names of members and numbers included, at most.
    fn bytes(&self) -> usize {
        const CART: usize = 130;
        const LINE: usize = 60;
        let texts = [self.name.as_str(), self.market.as_str(), self.currency.code(), self.currency.symbol()];
        let lines = self.lines.iter().map(|line| json_length(line.sku.as_str()).saturating_add(LINE));
        texts.into_iter().map(json_length).chain(lines).fold(CART, usize::saturating_add)
    }
}

/// The bytes of a text without control characters in JSON, without its quotes.
fn json_length(text: &str) -> usize {
    let escaped = text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    text.len().saturating_add(escaped)
}

/// Where each SKU is.
fn places(lines: &[Line]) -> HashMap<Sku, usize> {
    lines.iter().enumerate().map(|(place, line)| (line.sku.clone(), place)).collect()
}

/// Adds to what is there, as `sum` says, or else a new line.
fn add(
    lines: &mut Vec<Line>,
    more: impl IntoIterator<Item = (Sku, Quantity)>,
    sum: impl Fn(Quantity, Quantity) -> Result<Quantity>,
) -> Result<()> {
    let mut places = places(lines);
    let taken: HashSet<u64> = lines.iter().map(|line| line.id.0).collect();
    let mut free = (1..).filter(|id| !taken.contains(id)).map(LineId);
    for (sku, quantity) in more {
        if let Some(line) = places.get(&sku).and_then(|place| lines.get_mut(*place)) {
            line.quantity = sum(line.quantity, quantity)?;
        } else {
            let id = free.next().ok_or(CartRefusal::TooManyLines)?;
            places.insert(sku.clone(), lines.len());
            lines.push(Line { id, sku, quantity });
        }
    }
    Ok(())
}

fn all_differ<T: Eq + std::hash::Hash>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.all(|item| seen.insert(item))
}
