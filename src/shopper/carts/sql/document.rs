//! The carts of an owner as JSON text. Members may be added but never renamed: connectors of two releases read each
//! other's rows.

use serde::{Deserialize, Serialize};

use crate::shopper::carts::rules::{Cart, CartId, CartName, Carts, Currency, Line, LineId, Market, Quantity, Sku};
use crate::storage::{DatabaseError, corrupt, from_nanos, to_nanos};

#[derive(Serialize, Deserialize)]
struct CartDocument {
    id: u64,
    name: String,
    market: String,
    currency: String,
    symbol: String,
    lines: Vec<LineDocument>,
    /// Nanoseconds since 1970.
    changed_at: i64,
}

#[derive(Serialize, Deserialize)]
struct LineDocument {
    id: u64,
    sku: String,
    quantity: u16,
}

/// `None` for a text that no connector writes.
pub(crate) fn read(text: &str) -> Option<Carts> {
    let carts: Vec<CartDocument> = serde_json::from_str(text).ok()?;
    Carts::from_stored(carts.into_iter().map(cart).collect::<Option<_>>()?)
}

pub(crate) fn write(carts: &Carts) -> Result<String, DatabaseError> {
    let carts: Vec<CartDocument> = carts.all().iter().map(CartDocument::from).collect();
    serde_json::to_string(&carts).map_err(|_| corrupt("carts"))
}

impl From<&Cart> for CartDocument {
    fn from(cart: &Cart) -> Self {
        let line = |line: &Line| LineDocument {
            id: line.id.0,
            sku: line.sku.as_str().to_owned(),
            quantity: line.quantity.number(),
        };
        Self {
            id: cart.id.number(),
            name: cart.name.as_str().to_owned(),
            market: cart.market.as_str().to_owned(),
            currency: cart.currency.code().to_owned(),
            symbol: cart.currency.symbol().to_owned(),
            lines: cart.lines.iter().map(line).collect(),
            changed_at: to_nanos(cart.changed_at),
        }
    }
}

fn cart(document: CartDocument) -> Option<Cart> {
    let line = |line: LineDocument| {
        let quantity = Quantity::new(line.quantity.into()).ok()?;
        Some(Line { id: LineId(line.id), sku: Sku::parse(&line.sku).ok()?, quantity })
    };
    Some(Cart {
        id: CartId::new(document.id)?,
        name: CartName::parse(&document.name).ok()?,
        market: Market::parse(&document.market).ok()?,
        currency: Currency::new(&document.currency, &document.symbol).ok()?,
        lines: document.lines.into_iter().map(line).collect::<Option<_>>()?,
        changed_at: from_nanos(document.changed_at),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(characters: &'static str) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(characters.chars().collect::<Vec<_>>()), 1..10)
            .prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn text_is_no_longer_than_its_bound(
            carts in proptest::collection::btree_map(texts("a\"\\é€𝄞"), proptest::collection::btree_set(texts("a\"\\ ~"), 0..20), 0..5),
            id in 1..u64::MAX >> 11,
        ) {
            let mut owned = Carts::default();
            for (name, skus) in carts {
                let (market, currency) = (Market::parse(&name).unwrap(), Currency::new("EUR", "€").unwrap());
                let name = CartName::parse(&name).unwrap();
                let now = from_nanos(i64::MAX);
                let id = owned.open(name, market, currency, CartId::new(id).unwrap(), now).unwrap().id;
                let lines = skus.iter().map(|sku| (Sku::parse(sku).unwrap(), Quantity::MAX)).collect();
                owned.add_lines(id, lines, now).unwrap();
            }
            prop_assert!(write(&owned).unwrap().len() <= owned.bytes().saturating_add(2), "the bound and the list's brackets");
            prop_assert_eq!(read(&write(&owned).unwrap()), Some(owned));
        }
    }
}
