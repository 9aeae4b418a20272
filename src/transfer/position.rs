//! The position of a row: its line or, in a directory file, its list and number.

use std::fmt;

/// The lists of a directory file, and the kind of their rows.
pub(super) const LISTS: [(&str, &str); 5] = [
    ("stores", "store"),
    ("shoppers", "shopper"),
    ("identityKeys", "identityKey"),
    ("recognitionTokens", "recognitionToken"),
    ("customers", "customer"),
];

/// The position of a row in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Position {
    /// The first line of the row, from 1 on.
    Line(u32),
    /// The list of a directory file, as an index of `LISTS`, and the number of the row in it, from 0 on.
    Item(u8, u32),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Item(list, number) => {
                let (name, _) = LISTS.get(usize::from(*list)).copied().unwrap_or_default();
                write!(f, "{name}[{number}]")
            }
        }
    }
}
