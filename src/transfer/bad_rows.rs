//! The rows of a file that cannot be imported, and why. A few are shown; of all of them the lines are known.

use std::fmt;

use crate::directory::Problem;

/// How many rows are shown.
const SHOWN: usize = 20;

/// Bad rows by their lines.
#[derive(Debug, Default)]
pub struct BadRows {
    lines: Vec<u32>,
    shown: Vec<(u32, Vec<Problem>)>,
}

impl BadRows {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    pub(super) fn add(&mut self, line: u32, problems: Vec<Problem>) {
        self.lines.push(line);
        self.shown.push((line, problems));
        if self.shown.len() > SHOWN.saturating_mul(2) {
            self.sort();
        }
    }

    /// In the order of lines: what names somebody who stands nowhere is found out last.
    pub(super) fn sort(&mut self) {
        self.lines.sort_unstable();
        self.shown.sort_by_key(|(line, _)| *line);
        self.shown.truncate(SHOWN);
    }

    /// Takes over others.
    pub(super) fn append(&mut self, others: Self) {
        self.lines.extend(others.lines);
        self.shown.extend(others.shown);
        self.sort();
    }

    /// Whether this line is among them; to be asked after [`Self::sort`].
    pub(super) fn contains(&self, line: u32) -> bool {
        self.lines.binary_search(&line).is_ok()
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, problems) in self.shown.iter().take(SHOWN) {
            for problem in problems {
                writeln!(f, "  line {line}: {problem}")?;
            }
        }
        match self.lines.len().saturating_sub(SHOWN) {
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
            bad.add(line, vec![Problem::new("shopper.id", "is empty")]);
        }
        bad.sort();
        let text = bad.to_string();
        assert!(text.starts_with("  line 1: shopper.id: is empty\n  line 2: "), "{text}");
        assert!(text.ends_with("  line 20: shopper.id: is empty\n  and 80 more rows\n"), "{text}");
        assert!(bad.contains(100) && !bad.contains(101));
    }
}
