//! Whether the retailer's own system is asked.
//!
//! While it is not asked, one real question is let through every so often, and the first that is answered, whatever the answer, ends it.
//!
//! What it does not answer may be the key's doing: a shopper shows any key, again and again, or many. So only what goes unanswered while
//! nothing else is answered counts, by distinct keys, and all are forgotten with the first answer. That nobody is there to connect to, no
//! key can bring about.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::breaker::{Failures, Subject};

/// How many distinct keys must have gone unanswered for it to be asked no more: more than come through a gate or two in that time. Where
/// fewer come, nobody has to be kept from waiting.
const MANY: usize = 16;
/// And within which time.
const LATELY: Duration = Duration::from_secs(4);
/// How many distinct keys must have found nobody there.
const UNREACHABLE: usize = 3;
/// How many distinct keys must have gone unanswered for it to count as down.
const SEVERAL: usize = 3;
/// How often one is let through.
const TRIAL: Duration = Duration::from_millis(250);
/// How long the key is let through no more that was tried in vain: it may be the one that is not answered.
const BARRED: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug)]
struct State {
    unanswered: Failures,
    unreachable: Failures,
    answered: Option<Instant>,
    open: Option<Open>,
}

/// While it is not asked.
#[derive(Debug)]
struct Open {
    next_trial: Instant,
    /// Those that were let through lately; no more than fit into that time.
    tried: Vec<(Subject, Instant)>,
}

impl Circuit {
    pub(super) fn new() -> Self {
        let (unanswered, unreachable) = (Failures::new(MANY, LATELY), Failures::new(UNREACHABLE, Duration::MAX));
        Self(Mutex::new(State { unanswered, unreachable, answered: None, open: None }))
    }

    /// Whether this key may be asked about now.
    pub(super) fn admits(&self, key: Subject, now: Instant) -> bool {
        let mut state = self.state();
        let Some(open) = &mut state.open else { return true };
        open.tried.retain(|(_, at)| now.saturating_duration_since(*at) < BARRED);
        if now < open.next_trial || open.tried.iter().any(|(tried, _)| *tried == key) {
            return false;
        }
        open.next_trial = later(now, TRIAL);
        open.tried.push((key, now));
        true
    }

    /// Something was answered. Says whether that is news.
    pub(super) fn answered(&self, now: Instant) -> bool {
        let mut state = self.state();
        state.unanswered.forget();
        state.unreachable.forget();
        state.answered = Some(now);
        state.open.take().is_some()
    }

    /// Whether anything was answered at that time or later.
    pub(super) fn is_answered_since(&self, time: Instant) -> bool {
        self.state().answered.is_some_and(|at| at >= time)
    }

    /// A key was not answered, nor was anything else. Says whether this is what opens the circuit.
    pub(super) fn unanswered(&self, key: Subject, now: Instant) -> bool {
        let mut state = self.state();
        state.unanswered.add(&[key], now) && state.open(now)
    }

    /// The backend could not be reached. Says whether this is what opens the circuit.
    pub(super) fn unreachable(&self, key: Subject, now: Instant) -> bool {
        let mut state = self.state();
        state.unreachable.add(&[key], now) && state.open(now)
    }

    /// Whether it is not asked any more.
    pub(super) fn is_open(&self) -> bool {
        self.state().open.is_some()
    }

    /// Whether it answers, as far as is known.
    pub(super) fn is_up(&self, now: Instant) -> bool {
        let state = self.state();
        state.open.is_none() && state.unanswered.distinct(now) < SEVERAL
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Says whether it was not open before.
    fn open(&mut self, now: Instant) -> bool {
        let is_news = self.open.is_none();
        self.open.get_or_insert_with(|| Open { next_trial: later(now, TRIAL), tried: Vec::new() });
        is_news
    }
}

fn later(now: Instant, by: Duration) -> Instant {
    now.checked_add(by).unwrap_or(now)
}

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;
