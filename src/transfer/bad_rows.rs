//! The rows of a file that cannot be imported, and why; or that can, and may not be meant. A few are shown; of all of them the places are
//! known.

use std::fmt;

use super::spot::Spot;
use crate::directory::Problem;

/// How many rows are shown.
const SHOWN: usize = 20;

/// Rows with problems, by their places.
#[derive(Debug, Default)]
pub struct BadRows {
    spots: Vec<Spot>,
    shown: Vec<(Spot, Vec<Problem>)>,
}

impl BadRows {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    pub(super) fn add(&mut self, spot: Spot, problems: Vec<Problem>) {
        self.spots.push(spot);
        self.shown.push((spot, problems));
        if self.shown.len() > SHOWN.saturating_mul(2) {
            self.sort();
        }
    }

    /// In the order of the file: a row that names an unknown shopper is found out last.
    pub(super) fn sort(&mut self) {
        self.spots.sort_unstable();
        self.shown.sort_by_key(|(spot, _)| *spot);
        self.shown.truncate(SHOWN);
    }

    /// Takes over others.
    pub(super) fn append(&mut self, others: Self) {
        self.spots.extend(others.spots);
        self.shown.extend(others.shown);
        self.sort();
    }

    /// Whether this row is among them; to be asked after [`Self::sort`].
    pub(super) fn contains(&self, spot: Spot) -> bool {
        self.spots.binary_search(&spot).is_ok()
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (spot, problems) in self.shown.iter().take(SHOWN) {
            for problem in problems {
                writeln!(f, "  {spot}: {problem}")?;
            }
        }
        match self.spots.len().saturating_sub(SHOWN) {
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
    fn the_first_are_shown_whenever_they_were_found() {
        let mut bad = BadRows::default();
        for line in (1..=100).rev() {
            bad.add(Spot::Line(line), vec![Problem::new("shopper.id", "is empty")]);
        }
        bad.sort();
        let text = bad.to_string();
        assert!(text.starts_with("  line 1: shopper.id: is empty\n  line 2: "), "{text}");
        assert!(text.ends_with("  line 20: shopper.id: is empty\n  and 80 more rows\n"), "{text}");
        assert!(bad.contains(Spot::Line(100)) && !bad.contains(Spot::Line(101)));
    }
}
