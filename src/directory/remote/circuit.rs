//! The circuit breaker of the identity backend. While it is open, scans do not wait for the backend.
//!
//! An open breaker lets one request of a scan through every 250 ms. The first answer below 500 closes it.
//!
//! A missing answer may be caused by the key, and a shopper can show any key many times. So the breaker counts distinct
//! keys without an answer, and any answer sets the count back to zero. No key can cause a failed connection, so three
//! failed connections open it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Failures, Subject};
use crate::clock::later;

/// The number of distinct unanswered keys within [`UNANSWERED_WITHIN`] that opens the breaker. One or two gates cannot
/// send as many in that time. With fewer scans, waiting harms little.
const OPEN_AFTER_UNANSWERED: usize = 16;
/// The time in which unanswered keys are counted.
const UNANSWERED_WITHIN: Duration = Duration::from_secs(4);
/// The number of distinct keys with a failed connection that opens the breaker.
const OPEN_AFTER_UNREACHABLE: usize = 3;
/// The number of distinct unanswered keys from which on the backend is reported as down.
const DOWN_AFTER: usize = 3;
/// How often an open breaker lets a request through.
const TRIAL_INTERVAL: Duration = Duration::from_millis(250);
/// How long an open breaker does not try the same key again, as the key may be the cause of the failure.
const SAME_KEY_AFTER: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug)]
struct State {
    unanswered: Failures,
    unreachable: Failures,
    answered: Option<Instant>,
    open: Option<Open>,
}

/// The state of an open breaker.
#[derive(Debug)]
struct Open {
    next_trial: Instant,
    /// Keys tried within [`SAME_KEY_AFTER`]; at most one for each [`TRIAL_INTERVAL`] of it.
    tried: Vec<(Subject, Instant)>,
}

impl Circuit {
    pub(super) fn new() -> Self {
        let (unanswered, unreachable) = (
            Failures::new(OPEN_AFTER_UNANSWERED, UNANSWERED_WITHIN),
            Failures::new(OPEN_AFTER_UNREACHABLE, Duration::MAX),
        );
        Self(Mutex::new(State { unanswered, unreachable, answered: None, open: None }))
    }

    /// Whether this key may be looked up now.
    pub(super) fn admits(&self, key: Subject, now: Instant) -> bool {
        let mut state = self.state();
        let Some(open) = &mut state.open else { return true };
        open.tried.retain(|(_, at)| now.saturating_duration_since(*at) < SAME_KEY_AFTER);
        if now < open.next_trial || open.tried.iter().any(|(tried, _)| *tried == key) {
            return false;
        }
        open.next_trial = later(now, TRIAL_INTERVAL);
        open.tried.push((key, now));
        true
    }

    /// Records an answer. Returns whether it closes the breaker.
    pub(super) fn answered(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.unanswered.forget();
        state.unreachable.forget();
        state.answered = Some(now);
        state.open.take().is_some()
    }

    /// Whether there was an answer at that time or later.
    pub(super) fn is_answered_since(&self, time: Instant) -> bool {
        self.state().answered.is_some_and(|at| at >= time)
    }

    /// Records a request without an answer, while no other request was answered. Returns whether it opens the breaker.
    pub(super) fn unanswered(&self, key: Subject, now: Instant) -> bool {
        let mut state = self.state();
        state.unanswered.add(&[key], now) && state.open(now)
    }

    /// Records a failed connection. Returns whether it opens the breaker.
    pub(super) fn unreachable(&self, key: Subject, now: Instant) -> bool {
        let mut state = self.state();
        state.unreachable.add(&[key], now) && state.open(now)
    }

    /// Whether the breaker is open.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// Whether the backend answers, as far as is known.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        let state = self.state();
        state.open.is_none() && state.unanswered.distinct(now) < DOWN_AFTER
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Opens the breaker. Returns whether it was closed before.
    fn open(&mut self, now: Instant) -> bool {
        let was_closed = self.open.is_none();
        self.open.get_or_insert_with(|| Open { next_trial: later(now, TRIAL_INTERVAL), tried: Vec::new() });
        was_closed
    }
}

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;
