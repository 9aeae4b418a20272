//! All carts of one owner, and what may be done to them.

use std::collections::HashSet;

use chrono::{DateTime, Utc};

use super::{
    ANONYMOUS_LIFETIME, Cart, CartId, CartName, CartRefusal, Currency, Line, LineId, MAX_CARTS, MAX_LINES, Market,
    Quantity, Sku,
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

    /// When one of them last changed.
    #[must_use]
    pub fn changed_at(&self) -> Option<DateTime<Utc>> {
        self.0.iter().map(|cart| cart.changed_at).max()
    }

    /// The cart of that name and market as it is, or else a new one. `id` is for the new one; should another cart have it, the new one
    /// gets the next that is free.
    ///
    /// # Errors
    /// When a new one would be one too many.
    pub fn open(
        &mut self,
        name: CartName,
        market: Market,
        currency: Currency,
        id: CartId,
        now: DateTime<Utc>,
    ) -> Result<&Cart> {
        let place = match self.0.iter().position(|cart| cart.is_called(&name, &market)) {
            Some(place) => place,
            None => self.keep(Cart { id, name, market, currency, lines: Vec::new(), changed_at: now }, MAX_CARTS)?,
        };
        self.0.get(place).ok_or(CartRefusal::NoSuchCart)
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
    /// When there is no such cart, or it would become too full.
    pub fn add_lines(&mut self, id: CartId, lines: Vec<(Sku, Quantity)>, now: DateTime<Utc>) -> Result<&Cart> {
        self.cart_mut(id)?.alter(now, |own| lines.into_iter().try_for_each(|(sku, quantity)| add(own, sku, quantity)))
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
        self.cart_mut(id)?.alter(now, |own| {
            lines.into_iter().try_for_each(|(id, sku, quantity)| {
                let is_it = |line: &&mut Line| line.sku == sku && id.is_none_or(|id| line.id == id);
                own.iter_mut().find(is_it).ok_or(CartRefusal::NoSuchLine)?.quantity = quantity;
                Ok(())
            })
        })
    }

    /// Takes all there is of a SKU out of a cart.
    ///
    /// # Errors
    /// When there is no such cart, or it has none of it.
    pub fn remove_line(&mut self, id: CartId, sku: &Sku, now: DateTime<Utc>) -> Result<&Cart> {
        self.cart_mut(id)?.alter(now, |own| {
            let place = own.iter().position(|line| line.sku == *sku).ok_or(CartRefusal::NoSuchLine)?;
            own.remove(place);
            Ok(())
        })
    }

    /// Takes in the carts of another owner, who is the same person. Of carts of one name and market the quantities of one SKU add up, to
    /// [`MAX_QUANTITY`](super::MAX_QUANTITY) at most, and currency and id stay what they are here; the others move over whole. Should a
    /// cart here have the id of one that moves, that one gets the next that is free.
    ///
    /// There may be more carts and lines afterwards than anybody could have put there: whoever signs in is not to lose any, and may no
    /// longer be able to change what they had before.
    ///
    /// # Errors
    /// When there would be more than [`MERGED_CARTS`] or [`MERGED_LINES`], which no shopper comes to.
    pub fn merge(&mut self, other: Self, now: DateTime<Utc>) -> Result<()> {
        let mut merged = self.clone();
        for cart in other.0 {
            match merged.0.iter_mut().find(|own| own.is_called(&cart.name, &cart.market)) {
                Some(own) => {
                    let mut lines = cart.lines.into_iter();
                    own.alter(now, |own| lines.try_for_each(|line| merge(own, line)))?;
                }
                None => {
                    merged.keep(cart, MERGED_CARTS)?;
                }
            }
        }
        *self = merged;
        Ok(())
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

    /// Takes in one whose name and market no other has; where it stands.
    fn keep(&mut self, mut cart: Cart, at_most: usize) -> Result<usize> {
        let place = self.0.len();
        if place >= at_most {
            return Err(CartRefusal::TooManyCarts);
        }
        while self.find(cart.id).is_ok() {
            cart.id = cart.id.next();
        }
        self.0.push(cart);
        Ok(place)
    }
}

/// The most carts that an owner may come to have by merging.
pub const MERGED_CARTS: usize = 100;
/// The most lines that a cart may come to have by merging.
pub const MERGED_LINES: usize = 1000;

impl Cart {
    fn is_called(&self, name: &CartName, market: &Market) -> bool {
        self.name == *name && self.market == *market
    }

    /// Changes the lines as a whole or, when it is refused, not at all.
    fn alter(&mut self, now: DateTime<Utc>, change: impl FnOnce(&mut Vec<Line>) -> Result<()>) -> Result<&Self> {
        let mut lines = self.lines.clone();
        change(&mut lines)?;
        if lines != self.lines {
            self.lines = lines;
            self.changed_at = now;
        }
        Ok(self)
    }
}

fn add(lines: &mut Vec<Line>, sku: Sku, quantity: Quantity) -> Result<()> {
    match lines.iter_mut().find(|line| line.sku == sku) {
        Some(line) => line.quantity = line.quantity.plus(quantity)?,
        None => push(lines, sku, quantity, MAX_LINES)?,
    }
    Ok(())
}

fn merge(lines: &mut Vec<Line>, Line { sku, quantity, .. }: Line) -> Result<()> {
    match lines.iter_mut().find(|line| line.sku == sku) {
        Some(line) => line.quantity = line.quantity.plus(quantity).unwrap_or(Quantity::MOST),
        None => push(lines, sku, quantity, MERGED_LINES)?,
    }
    Ok(())
}

fn push(lines: &mut Vec<Line>, sku: Sku, quantity: Quantity, at_most: usize) -> Result<()> {
    if lines.len() >= at_most {
        return Err(CartRefusal::TooManyLines);
    }
    let taken: HashSet<u64> = lines.iter().map(|line| line.id.0).collect();
    let id = (1..).find(|id| !taken.contains(id)).map(LineId).ok_or(CartRefusal::TooManyLines)?;
    lines.push(Line { id, sku, quantity });
    Ok(())
}

fn all_differ<T: Eq + std::hash::Hash>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.all(|item| seen.insert(item))
}
