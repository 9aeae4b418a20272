//! The reasons why a change to carts is refused.

use thiserror::Error;

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
    /// There would be more than [`MAX_CARTS`](crate::shopper::carts::rules::MAX_CARTS) carts.
    TooManyCarts,
    /// There would be more than [`MAX_LINES`](crate::shopper::carts::rules::MAX_LINES) lines.
    TooManyLines,
    /// The carts would take more than [`MAX_BYTES`](crate::shopper::carts::rules::MAX_BYTES).
    TooManyBytes,
    /// A cart would have more than [`MAX_QUANTITY`](crate::shopper::carts::rules::MAX_QUANTITY) of one SKU.
    TooMuchOfOneSku,
    /// The store already has the maximum number of owners.
    Full,
}

impl CartRefusal {
    /// The stable identifier in logs and metrics.
    #[must_use]
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
            Self::Full => "the maximum number of carts is stored at the moment: try again later",
        }
    }
}
