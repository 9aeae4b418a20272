//! Why carts are not changed as somebody asked.

use thiserror::Error;

/// Why carts are not changed, in words for whoever asked: what is wrong, and what would do. Nothing has changed then.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CartRefusal {
    /// Not a SKU.
    #[error("a SKU is 1 to 100 printable ASCII characters, U+0020 to U+007E")]
    Sku,
    /// Not a quantity.
    #[error("a quantity is a whole number from 1 to 999")]
    Quantity,
    /// Not a name of a cart.
    #[error("a cart's name is 1 to 100 characters, none of them a control character")]
    Name,
    /// Not a market.
    #[error("a market is 1 to 50 characters, none of them a control character")]
    Market,
    /// Not a currency.
    #[error("a currency is a code of 1 to 10 characters and a symbol of up to 10, none of them a control character")]
    Currency,
    /// Not an owner's cart.
    #[error("there is no cart of this id: open one, or use the id of one that is there")]
    NoSuchCart,
    /// Not a line of the cart.
    #[error(
        "the cart has no such line: add the SKU first, or give the id of a line together with the SKU that is on it"
    )]
    NoSuchLine,
    /// More than [`MAX_CARTS`](super::MAX_CARTS).
    #[error("there would be more than 20 carts: delete one first")]
    TooManyCarts,
    /// More than [`MAX_LINES`](super::MAX_LINES).
    #[error("a cart would have more than 100 lines: remove some first")]
    TooManyLines,
    /// More than [`MAX_QUANTITY`](super::MAX_QUANTITY) of one SKU.
    #[error("a cart would have more than 999 of one SKU: ask for less of it")]
    TooMuchOfOneSku,
    /// Too many others have carts, where memory is all there is to keep them.
    #[error("there is no room for more carts at the moment: try again later")]
    Full,
}
