//! The database's circuit breaker. While it is open, requests fail immediately instead of waiting for a database that
//! does not answer.
//!
//! It opens when connections fail or statements take too long for several distinct subjects (scans or keys). Failures
//! of a single subject, for instance on a row that another client has locked, say nothing about the database's health
//! and never open it.
//!
//! For a SQLite file on a slow disk it stays closed: a commit takes too long for a scan, but the scan's retry gets the
//! decision. It opens when a single write takes several times its limit.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Failures, Subject};

/// The breaker opens after failures of this many distinct subjects with no success in between.
const DISTINCT_FAILURES: usize = 3;

/// The disk counts as slow after this many exceeded time limits of writes with no write in time in between.
const SLOW: u32 = 3;
/// The disk counts as stalled when a single write takes this many times its time limit.
const STALLED: u32 = 8;

/// Whether requests may query the database. While the breaker is open, only the probe does.
#[derive(Debug)]
pub(super) struct Breaker {
    open: AtomicBool,
    slow: AtomicBool,
    /// How often writes have exceeded their time limit since the last write in time.
    late: AtomicU32,
    failures: AtomicU64,
    /// Whether a write, in time or late, has succeeded since the last call of `has_written`.
    wrote: AtomicBool,
    /// The failure that opened the breaker.
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

/// What a late write says about the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LateWrite {
    /// Writes take longer than a scan may wait.
    Slow,
    /// A write does not complete.
    Stalled,
}

/// Failures of reads and of writes are counted separately: a database that cannot commit may still read.
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

    /// The number of failures since the start.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether writes have been late, but too few for the disk to count as slow.
    pub(super) fn has_late_writes(&self) -> bool {
        self.late.load(Ordering::Relaxed) > 0 && !self.is_slow()
    }

    /// Records a success in time. Returns whether the disk was slow until now.
    pub(super) fn succeeded(&self, kind: Kind) -> bool {
        self.failed_of(kind).forget();
        kind == Kind::Write && {
            self.wrote();
            self.late.store(0, Ordering::Relaxed);
            self.slow.swap(false, Ordering::Relaxed)
        }
    }

    /// Records that a write has succeeded, in time or late.
    pub(super) fn wrote(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// Records that one write has now taken `times` times its time limit. Returns what that says about the disk, if
    /// this has changed.
    pub(super) fn late_write(&self, times: u32, time_limit: Duration) -> Option<LateWrite> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let late = self.late.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if times >= STALLED && !self.open.swap(true, Ordering::Relaxed) {
            let error = format!(
                "the disk of the SQLite file is stalled: a write takes longer than {:?}",
                time_limit.saturating_mul(STALLED)
            );
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            return Some(LateWrite::Stalled);
        }
        (late >= SLOW && !self.slow.swap(true, Ordering::Relaxed)).then_some(LateWrite::Slow)
    }

    /// Whether a write has succeeded since the last call.
    pub(super) fn has_written(&self) -> bool {
        self.wrote.swap(false, Ordering::Relaxed)
    }

    /// The failure that opened the breaker.
    pub(super) fn error(&self) -> String {
        self.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records a failure of these subjects. Returns whether it opened the breaker.
    pub(super) fn failed(&self, kind: Kind, subjects: &[Subject], error: impl Display) -> bool {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let is_open_now =
            self.failed_of(kind).add(subjects, Instant::now()) && !self.open.swap(true, Ordering::Relaxed);
        if is_open_now {
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        }
        is_open_now
    }

    /// Closes the breaker, after a probe that could read and write, even if it was late.
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
    fn failures_of_one_subject_never_open_the_breaker() {
        let breaker = Breaker::default();
        for _ in 0..100 {
            assert!(!breaker.failed(Kind::Read, &subjects([7]), ""));
        }
        assert!(!breaker.is_open());
        assert_eq!(breaker.failures(), 100);
    }

    #[test]
    fn failures_of_three_subjects_without_a_success_between_open_the_breaker() {
        let breaker = Breaker::default();
        assert!(!breaker.failed(Kind::Read, &subjects([1, 2]), ""));
        breaker.succeeded(Kind::Read);
        assert!(!breaker.failed(Kind::Read, &subjects([3, 4]), ""));
        assert!(breaker.failed(Kind::Read, &subjects([5]), ""));
        assert!(!breaker.failed(Kind::Read, &subjects([6]), ""), "it is open already");
        assert!(breaker.is_open());
        breaker.close();
        assert!(!breaker.is_open());
        assert!(!breaker.failed(Kind::Read, &subjects([7, 8]), ""), "the count starts again");
    }

    #[test]
    fn disk_is_slow_after_three_exceeded_limits_and_fast_after_one_write_in_time() {
        let (breaker, time_limit) = (Breaker::default(), Duration::from_millis(600));
        let late = |times| breaker.late_write(times, time_limit);
        assert_eq!([late(1), late(1)], [None, None]);
        assert!(!breaker.succeeded(Kind::Write), "it was not slow");
        assert_eq!([late(1), late(2), late(1), late(2)], [None, None, Some(LateWrite::Slow), None]);
        assert!(breaker.is_slow() && !breaker.is_open());
        assert!(breaker.succeeded(Kind::Write) && !breaker.is_slow());
        assert_eq!((late(7), late(8)), (None, Some(LateWrite::Stalled)));
        assert!(breaker.is_open());
    }

    #[test]
    fn failing_writes_open_the_breaker_although_reads_succeed() {
        let breaker = Breaker::default();
        for subject in 1..=2 {
            assert!(!breaker.failed(Kind::Write, &subjects([subject]), ""));
            breaker.succeeded(Kind::Read);
        }
        assert!(breaker.failed(Kind::Write, &subjects([3]), ""));
    }
}
