//! Whether the retailer's own system is asked, and whose fault it is when it does not answer.
//!
//! Nobody but it knows which keys are good, and so there is no key to try it with. While it is not asked, one real question is let through every
//! so often, and the first that is answered, whatever the answer, ends it.
//!
//! What it does not answer may be the key's doing: a shopper shows any key, again and again, or many. So failures count by distinct keys,
//! and all are forgotten with the first answer. That nobody is there to connect to, no key can bring about.

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
/// How many distinct keys must have gone unanswered for the others to be at fault no more.
const SEVERAL: usize = 3;
/// How long an answer shows that it is well.
const WELL: Duration = Duration::from_secs(30);
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

/// What a question without an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the key's doing, as far as can be told: others are answered.
    TheKey,
    /// It is ill.
    TheBackend {
        /// Only since now it is not asked any more.
        is_news: bool,
    },
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

    /// A key was not answered, which may be its own doing.
    pub(super) fn unanswered(&self, key: Subject, now: Instant) -> Verdict {
        let mut state = self.state();
        if state.unanswered.add(&[key], now) {
            return Verdict::TheBackend { is_news: state.open(now) };
        }
        if state.is_well(now) { Verdict::TheKey } else { Verdict::TheBackend { is_news: false } }
    }

    /// A key was not answered before its scan's own time was up, which says nothing.
    pub(super) fn not_waited_for(&self, now: Instant) -> Verdict {
        if self.state().is_well(now) { Verdict::TheKey } else { Verdict::TheBackend { is_news: false } }
    }

    /// Nobody was there to ask.
    pub(super) fn unreachable(&self, key: Subject, now: Instant) -> Verdict {
        let mut state = self.state();
        let is_news = state.unreachable.add(&[key], now) && state.open(now);
        Verdict::TheBackend { is_news }
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
    fn is_well(&self, now: Instant) -> bool {
        let lately = self.answered.is_some_and(|at| now.saturating_duration_since(at) < WELL);
        lately && self.open.is_none() && self.unreachable.distinct(now) == 0 && self.unanswered.distinct(now) < SEVERAL
    }

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
