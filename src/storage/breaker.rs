//! The breaker: when the database does not answer, whoever asks is told so at once instead of queueing.
//!
//! A SQLite file on a slow disk is asked all the same: its commits take too long for a scan, and not for the scan's retry.
//!
//! It counts connections that fail and statements that take too long, and only over several distinct subjects: what one
//! key provokes, a row that somebody has locked for instance, is no sign of the database's health.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Failures, Subject};

/// How many distinct subjects must have failed, with no success in between.
const DISTINCT_FAILURES: usize = 3;

/// How many times the patience for a write must have passed, with no write in time in between, for the disk to count as slow.
const SLOW: u32 = 3;
/// How many times it must have passed for a single write, for the disk to count as standing still.
const STILL: u32 = 8;

/// Whether the database is asked, or only checked until it answers again.
#[derive(Debug)]
pub(super) struct Breaker {
    open: AtomicBool,
    slow: AtomicBool,
    /// How often the patience for a write has passed since the last write in time.
    late: AtomicU32,
    failures: AtomicU64,
    /// Whether anything was written, in time or not, since that was last asked for.
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
            slow: AtomicBool::new(false),
            late: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            wrote: AtomicBool::new(false),
            error: Mutex::default(),
            reading: failures(),
            writing: failures(),
        }
    }
}

/// What a late write is the sign of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Writes take longer than a scan may wait.
    Slow,
    /// A write does not end.
    Still,
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

    /// Whether writes take longer than a scan may wait.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    /// How many failures it has counted.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether writes have been late, too seldom to be slow.
    pub(super) fn is_doubtful(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0 && !self.is_slow()
    }

    /// Something of that kind was answered, and in time. Says whether that ends its being slow.
    pub(super) fn succeeded(&self, kind: Kind) -> bool {
        self.failed_of(kind).forget();
        kind == Kind::Write && {
            self.wrote();
            self.late.store(0, Ordering::Relaxed);
            self.slow.swap(false, Ordering::Relaxed)
        }
    }

    /// Something was written, in time or not.
    pub(super) fn wrote(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// The patience for one write has passed, for the `times`th time. Says what that is the sign of, if it is news.
    pub(super) fn late(&self, times: u32, patience: Duration) -> Option<Late> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let late = self.late.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if times >= STILL && !self.open.swap(true, Ordering::Relaxed) {
            let error =
                format!("the disk stands still: a write takes longer than {:?}", patience.saturating_mul(STILL));
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            return Some(Late::Still);
        }
        (late >= SLOW && !self.slow.swap(true, Ordering::Relaxed)).then_some(Late::Slow)
    }

    /// Whether anything was written since the last call.
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

    /// A check was answered, reading and writing, but not necessarily in time.
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
    fn a_disk_is_slow_after_three_late_marks_and_fast_after_one_write_in_time() {
        let (breaker, patience) = (Breaker::default(), Duration::from_millis(600));
        let late = |times| breaker.late(times, patience);
        assert_eq!([late(1), late(1)], [None, None]);
        assert!(!breaker.succeeded(Kind::Write), "it was not slow");
        assert_eq!([late(1), late(2), late(1), late(2)], [None, None, Some(Late::Slow), None]);
        assert!(breaker.is_slow() && !breaker.is_open());
        assert!(breaker.succeeded(Kind::Write) && !breaker.is_slow());
        assert_eq!((late(7), late(8)), (None, Some(Late::Still)));
        assert!(breaker.is_open());
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
