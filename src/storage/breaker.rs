//! The breaker: when the database does not answer, whoever asks is told so at once instead of queueing.
//!
//! It counts connections that fail and statements that take too long, and only over several distinct subjects: what one
//! key provokes, a row that somebody has locked for instance, is no sign of the database's health.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Failures, Subject};

/// How many distinct subjects must have failed, with no success in between.
const DISTINCT_FAILURES: usize = 3;

/// Whether the database is asked, or only checked until it answers again.
#[derive(Debug)]
pub(super) struct Breaker {
    open: AtomicBool,
    failures: AtomicU64,
    /// Whether a write has succeeded since that was last asked for.
    wrote: AtomicBool,
    /// The failure by which it opened.
    error: Mutex<String>,
    reading: Mutex<Failures>,
    writing: Mutex<Failures>,
}

impl Default for Breaker {
    fn default() -> Self {
        let failures = || Mutex::new(Failures::new(DISTINCT_FAILURES, Duration::MAX));
        Self {
            open: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            wrote: AtomicBool::new(false),
            error: Mutex::default(),
            reading: failures(),
            writing: failures(),
        }
    }
}

/// Reads and writes fail apart: a database that cannot commit may still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// How many failures it has counted.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Something of that kind was answered.
    pub(super) fn succeeded(&self, kind: Kind) {
        if kind == Kind::Write {
            self.wrote.store(true, Ordering::Relaxed);
        }
        self.failed_of(kind).forget();
    }

    /// Whether a write has succeeded since the last call.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.swap(false, Ordering::Relaxed)
    }

    /// The failure by which it opened.
    pub(super) fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What these subjects asked for was not answered. Says whether that opened the breaker.
    pub(super) fn failed(&self, kind: Kind, subjects: &[Subject], error: impl Display) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let is_open_now =
            self.failed_of(kind).add(subjects, Instant::now()) && !self.open.swap(true, Ordering::Relaxed);
        if is_open_now {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        }
        is_open_now
    }

    /// A check was answered, reading and writing.
    pub(super) fn close(&self) {
        self.failed_of(Kind::Read).forget();
        self.failed_of(Kind::Write).forget();
        self.open.store(false, Ordering::Relaxed);
    }

    fn failed_of(&self, kind: Kind) -> MutexGuard<'_, Failures> {
        let failed = match kind {
            Kind::Read => &self.reading,
            Kind::Write => &self.writing,
        };
        failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Fingerprint;

    fn subjects<const N: usize>(numbers: [u8; N]) -> [Subject; N] {
        numbers.map(|number| Fingerprint::from_bytes([number; 32]).into())
    }

    #[test]
    fn one_subject_that_fails_for_ever_opens_nothing() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failed(Kind::Read, &subjects([7]), ""));
        }
        assert!(!breaker.is_open());
        assert_eq!(breaker.failures(), 100);
    }

    #[test]
    fn three_subjects_open_it_once_unless_one_was_answered_in_between() {
        let breaker = Breaker::default();
        assert!(!breaker.failed(Kind::Read, &subjects([1, 2]), ""));
        breaker.succeeded(Kind::Read);
        assert!(!breaker.failed(Kind::Read, &subjects([3, 4]), ""));
        assert!(breaker.failed(Kind::Read, &subjects([5]), ""));
        assert!(!breaker.failed(Kind::Read, &subjects([6]), ""), "it is open already");
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(!breaker.failed(Kind::Read, &subjects([7, 8]), ""), "counted afresh");
    }

    #[test]
    fn a_database_that_reads_but_cannot_commit_is_out_of_order() {
        let breaker = Breaker::default();
        for subject in 1..=2 {
            assert!(!breaker.failed(Kind::Write, &subjects([subject]), ""));
            breaker.succeeded(Kind::Read);
        }
        assert!(breaker.failed(Kind::Write, &subjects([3]), ""));
    }
}
