//! Rows of a file with problems or warnings. It keeps the positions of all of them, and the messages of the first 20.

use std::fmt;

use super::position::Position;
use crate::directory::Problem;

/// The number of rows whose messages are kept.
const SHOWN: usize = 20;

/// Rows with problems or warnings, by position.
#[derive(Debug, Default)]
pub(crate) struct BadRows {
    positions: Vec<Position>,
    shown: Vec<(Position, Vec<Problem>)>,
}

impl BadRows {
    /// The number of rows.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.positions.is_empty()
    }

    pub(super) fn add(&mut self, position: Position, problems: Vec<Problem>) {
        self.positions.push(position);
        self.shown.push((position, problems));
        if self.shown.len() > SHOWN.saturating_mul(2) {
            self.sort();
        }
    }

    /// Sorts the rows by position. A row that names an unknown shopper is found last, also if it is at the start of the
    /// file.
    pub(super) fn sort(&mut self) {
        self.positions.sort_unstable();
        self.shown.sort_by_key(|(position, _)| *position);
        self.shown.truncate(SHOWN);
    }

    /// Adds other rows.
    pub(super) fn append(&mut self, others: Self) {
        self.positions.extend(others.positions);
        self.shown.extend(others.shown);
        self.sort();
    }

    /// Whether the row at this position is included. Call [`Self::sort`] before.
    pub(super) fn contains(&self, position: Position) -> bool {
        self.positions.binary_search(&position).is_ok()
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problems) in self.shown.iter().take(SHOWN) {
            for problem in problems {
                writeln!(f, "  {position}: {problem}")?;
            }
        }
        match self.positions.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            1 => writeln!(f, "  and 1 more row"),
            more => writeln!(f, "  and {more} more rows"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rows_of_the_file_are_shown_in_any_order_of_discovery() {
        let mut bad = BadRows::default();
        for line in (1..=100).rev() {
            bad.add(Position::Line(line), vec![Problem::new("shopper.id", "is empty")]);
        }
        bad.sort();
        let text = bad.to_string();
        assert!(text.starts_with("  line 1: shopper.id: is empty\n  line 2: "), "{text}");
        assert!(text.ends_with("  line 20: shopper.id: is empty\n  and 80 more rows\n"), "{text}");
        assert!(bad.contains(Position::Line(100)) && !bad.contains(Position::Line(101)));
    }
}
