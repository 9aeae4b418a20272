//! Why carts are not changed as somebody asked.

use thiserror::Error;

/// Why carts are not changed, in words for whoever asked: what is wrong, and what would do. Nothing has changed then.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{}", self.message())]
pub enum CartRefusal {
    /// Not a SKU.
    Sku,
    /// Not a quantity.
    Quantity,
    /// Not a name of a cart.
    Name,
    /// Not a market.
    Market,
    /// Not a currency.
    Currency,
    /// Not an owner's cart.
    NoSuchCart,
    /// Not a line of the cart.
    NoSuchLine,
    /// More than [`MAX_CARTS`](super::MAX_CARTS).
    TooManyCarts,
    /// More than [`MAX_LINES`](super::MAX_LINES).
    TooManyLines,
    /// More than [`MAX_BYTES`](super::MAX_BYTES).
    TooManyBytes,
    /// More than [`MAX_QUANTITY`](super::MAX_QUANTITY) of one SKU.
    TooMuchOfOneSku,
    /// Too many others have carts, where memory is all there is to keep them.
    Full,
}

impl CartRefusal {
    /// The same words, as a constant: they also go into the status line, which holds no text of a sender.
    #[must_use]
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
            Self::Full => "there is no room for more carts at the moment: try again later",
        }
    }
}
