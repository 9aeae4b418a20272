//! Telling that something we depend on is ill from that one who asks makes it fail.
//!
//! Failures count by whose they are: what one key provokes again and again is one failure, and anything that is answered in between
//! forgets them all.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::digest::{Digest, Fingerprint};

/// Whose failure it is: a scan, or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject(Digest);

impl From<Fingerprint> for Subject {
    fn from(fingerprint: Fingerprint) -> Self {
        Self(Digest::from_bytes(*fingerprint.as_bytes()))
    }
}

impl From<Digest> for Subject {
    fn from(digest: Digest) -> Self {
        Self(digest)
    }
}

/// The failures of distinct subjects, with no success in between.
#[derive(Debug)]
pub(crate) struct Failures {
    enough: usize,
    within: Duration,
    last: HashMap<Subject, Instant>,
}

impl Failures {
    /// `enough` distinct subjects within that time tell of an illness.
    pub(crate) fn new(enough: usize, within: Duration) -> Self {
        Self { enough, within, last: HashMap::new() }
    }

    /// These have failed. Says whether they are enough now.
    pub(crate) fn add(&mut self, subjects: &[Subject], now: Instant) -> bool {
        self.last.retain(|_, at| now.saturating_duration_since(*at) <= self.within);
        for subject in subjects {
            // Bounded: more would not count.
            if self.last.len() < self.enough || self.last.contains_key(subject) {
                self.last.insert(*subject, now);
            }
        }
        self.last.len() >= self.enough
    }

    /// How many distinct subjects have failed lately.
    pub(crate) fn distinct(&self, now: Instant) -> usize {
        self.last.values().filter(|at| now.saturating_duration_since(**at) <= self.within).count()
    }

    /// Something was answered.
    pub(crate) fn forget(&mut self) {
        self.last.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u8) -> Subject {
        Digest::from_bytes([number; 32]).into()
    }

    #[tokio::test(start_paused = true)]
    async fn only_distinct_subjects_count_and_only_lately() {
        let mut failures = Failures::new(3, Duration::from_secs(4));
        for _ in 0..100 {
            assert!(!failures.add(&[subject(1)], Instant::now()));
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!failures.add(&[subject(2)], Instant::now()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!failures.add(&[subject(3)], Instant::now()), "the first is too long ago");
        assert_eq!(failures.distinct(Instant::now()), 2);
        assert!(failures.add(&[subject(4)], Instant::now()));
        failures.forget();
        assert_eq!(failures.distinct(Instant::now()), 0);
    }

    #[test]
    fn they_are_bounded() {
        let mut failures = Failures::new(3, Duration::MAX);
        for number in 0..=255 {
            failures.add(&[subject(number)], Instant::now());
        }
        assert_eq!(failures.last.len(), 3);
    }
}
