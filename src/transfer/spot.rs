//! Where a row is: on which line, or, in a directory file, in which list.

use std::fmt;

/// Lists of a directory file, and what a row of each is called elsewhere.
pub(super) const LISTS: [(&str, &str); 5] = [
    ("stores", "store"),
    ("shoppers", "shopper"),
    ("identityKeys", "identityKey"),
    ("recognitionTokens", "recognitionToken"),
    ("customers", "customer"),
];

/// The place of a row, which no other row of its file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// It begins on this line.
    Line(u32),
    /// It is in this one of the lists of a directory file, behind so many others.
    Item(u8, u32),
}

impl fmt::Display for Spot {
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
