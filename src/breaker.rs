//! Distinguishes an unhealthy dependency from one request that always fails.
//!
//! Failures are counted by subject (a scan or a key): repeated failures of one subject count once. Any success resets
//! the count.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::digest::{Digest, Fingerprint};

/// The subject of a failure: a scan or a key.
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

/// The recent failures of distinct subjects, since the last success.
#[derive(Debug)]
pub(crate) struct Failures {
    threshold: usize,
    window: Duration,
    last: HashMap<Subject, Instant>,
}

impl Failures {
    /// `threshold` distinct subjects that fail within `window` mean that the dependency is unhealthy.
    pub(crate) fn new(threshold: usize, window: Duration) -> Self {
        Self { threshold, window, last: HashMap::new() }
    }

    /// Adds a failure of each of these subjects. Returns whether the threshold is reached.
    pub(crate) fn add(&mut self, subjects: &[Subject], now: Instant) -> bool {
        self.last.retain(|_, at| now.saturating_duration_since(*at) <= self.window);
        for subject in subjects {
            // Keeps at most `threshold` subjects: more would change nothing.
            if self.last.len() < self.threshold || self.last.contains_key(subject) {
                self.last.insert(*subject, now);
            }
        }
        self.last.len() >= self.threshold
    }

    /// The number of distinct subjects that have failed within the window.
    pub(crate) fn distinct(&self, now: Instant) -> usize {
        self.last.values().filter(|at| now.saturating_duration_since(**at) <= self.window).count()
    }

    /// Resets the count after a success.
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
    async fn only_distinct_and_recent_subjects_count() {
        let mut failures = Failures::new(3, Duration::from_secs(4));
        for _ in 0..100 {
            assert!(!failures.add(&[subject(1)], Instant::now()));
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!failures.add(&[subject(2)], Instant::now()));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!failures.add(&[subject(3)], Instant::now()), "the first failure is too old");
        assert_eq!(failures.distinct(Instant::now()), 2);
        assert!(failures.add(&[subject(4)], Instant::now()));
        failures.forget();
        assert_eq!(failures.distinct(Instant::now()), 0);
    }

    #[test]
    fn number_of_kept_subjects_is_bounded() {
        let mut failures = Failures::new(3, Duration::MAX);
        for number in 0..=255 {
            failures.add(&[subject(number)], Instant::now());
        }
        assert_eq!(failures.last.len(), 3);
    }
}
