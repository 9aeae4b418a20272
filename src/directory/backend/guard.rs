//! What protects scans and the identity backend from each other: the circuit breaker, the log of bad answers, and the
//! cache of answers.
//!
//! While the breaker is open, scans fail immediately instead of waiting for the backend. Only one scan every 250 ms
//! sends a request, as a trial. The first answer below 500 closes the breaker.
//!
//! A missing answer may be caused by the key, and a shopper can show any key many times. So the breaker counts distinct
//! keys without an answer, and any answer sets the count back to zero. No key can cause a failed connection, so three
//! failed connections open it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::LookupRequest;
use crate::breaker::{Failures, Subject};
use crate::cache::{Generation, GenerationCache};
use crate::clock::later;
use crate::digest::Digest;
use crate::directory::{Kind, Registration};
use crate::domain::ids::StoreId;
use crate::domain::scan::KeyChannel;

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
/// The minimum time between two log lines about answers: good and bad answers may alternate.
const MIN_LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Circuit(Mutex<State>);

#[derive(Debug)]
struct State {
    unanswered: Failures,
    unreachable: Failures,
    answered: Option<Instant>,
    open: Option<Open>,
}

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

/// Logs when the backend begins or stops to refuse look-up requests or to send malformed answers.
///
/// One refused key concerns one shopper; if the backend refuses every key, the operator must act.
#[derive(Debug, Default)]
pub(super) struct AnswerHealth(Mutex<LastLogged>);

#[derive(Debug, Default)]
struct LastLogged {
    trouble: Option<Trouble>,
    at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The request was refused with a 4xx status.
    Refused,
    /// The answer does not conform to the contract.
    Malformed,
}

impl AnswerHealth {
    pub(super) fn valid(&self, now: Instant) {
        if self.should_log(None, now) {
            tracing::info!("the identity backend sends valid answers again");
        }
    }

    pub(super) fn refused(&self, status: u16, now: Instant) {
        if self.should_log(Some(Trouble::Refused), now) {
            tracing::warn!(
                status,
                "the identity backend refuses a look-up request: the shopper's key counts as not found; if it refuses every request, check \
                 directory.token and directory.client_certificate"
            );
        }
    }

    pub(super) fn malformed(&self, error: &str, now: Instant) {
        if self.should_log(Some(Trouble::Malformed), now) {
            tracing::warn!(
                error,
                "the identity backend sent a malformed answer: the shopper's key counts as not found"
            );
        }
    }

    /// Whether this state is new and the last line is long enough ago.
    fn should_log(&self, trouble: Option<Trouble>, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = last.at.is_some_and(|at| now.saturating_duration_since(at) < MIN_LOG_INTERVAL);
        if last.trouble == trouble || is_soon {
            return false;
        }
        *last = LastLogged { trouble, at: Some(now) };
        true
    }
}

/// Answers about known keys, which are used again for a time. They are found by the digest of the key; the key itself
/// is never kept.
#[derive(Debug)]
pub(super) struct Answers {
    ttl: Duration,
    entries: GenerationCache<Key, (Instant, Registration)>,
}

/// Everything that an answer may depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    kind: Kind,
    digest: Digest,
    store: StoreId,
    channel: Option<KeyChannel>,
}

impl From<&LookupRequest<'_>> for Key {
    fn from(request: &LookupRequest<'_>) -> Self {
        let context = request.context;
        Self { kind: request.kind, digest: request.digest, store: context.store.clone(), channel: context.channel }
    }
}

impl Answers {
    /// With a `ttl` of zero, no answer is kept.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, entries: GenerationCache::default() }
    }

    /// The current generation. Get it before the request is sent.
    pub(super) fn generation(&self) -> Generation {
        self.entries.generation()
    }

    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Registration> {
        let (at, registration) = self.entries.find(key)?;
        self.is_recent(at, now).then_some(registration)
    }

    /// Adds the answer to a request that was sent at `asked_at`.
    pub(super) fn insert(&self, key: Key, generation: Generation, asked_at: Instant, found: Registration) {
        if !self.ttl.is_zero() {
            self.entries.insert(key, generation, (asked_at, found));
        }
    }

    /// Removes all answers, and adds no answer to a request that is in flight.
    pub(super) fn invalidate(&self) {
        self.entries.invalidate();
    }

    pub(super) fn sweep(&self, now: Instant) {
        self.entries.retain(|(at, _)| self.is_recent(*at, now));
    }

    fn is_recent(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) < self.ttl
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn key(number: u8) -> Subject {
        Digest::from_bytes([number; 32]).into()
    }

    fn is_admitted(circuit: &Circuit, number: u8) -> bool {
        circuit.admits(key(number), Instant::now())
    }

    /// Records a request without an answer. Returns whether it opens the breaker.
    fn fails(circuit: &Circuit, number: u8) -> bool {
        circuit.unanswered(key(number), Instant::now())
    }

    fn opened() -> Circuit {
        let circuit = Circuit::new();
        for number in 0..15 {
            assert!(!fails(&circuit, number));
        }
        assert!(is_admitted(&circuit, 15));
        assert!(fails(&circuit, 15), "the sixteenth");
        circuit
    }

    #[tokio::test(start_paused = true)]
    async fn one_key_that_always_fails_does_not_open_the_breaker() {
        let circuit = Circuit::new();
        for _ in 0..1000 {
            assert!(!fails(&circuit, 7));
            assert!(is_admitted(&circuit, 7) && circuit.is_up(Instant::now()));
            advance(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn three_keys_that_fail_with_no_answer_in_between_count_as_down() {
        let circuit = Circuit::new();
        for number in 0..2 {
            fails(&circuit, number);
            assert!(circuit.is_up(Instant::now()));
        }
        fails(&circuit, 2);
        assert!(!circuit.is_up(Instant::now()));
        circuit.answered(Instant::now());
        assert!(circuit.is_up(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_is_known_from_its_time_on() {
        let circuit = Circuit::new();
        let asked = Instant::now();
        assert!(!circuit.is_answered_since(asked));
        circuit.answered(asked);
        assert!(circuit.is_answered_since(asked));
        advance(Duration::from_millis(1)).await;
        assert!(!circuit.is_answered_since(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_keys_as_one_gate_can_send_do_not_open_the_breaker() {
        let circuit = Circuit::new();
        for number in 0..250 {
            fails(&circuit, number);
            assert!(is_admitted(&circuit, number));
            advance(Duration::from_millis(300)).await; // ten in three seconds
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_keys_within_a_short_time_open_the_breaker_unless_one_is_answered() {
        let circuit = Circuit::new();
        for number in 0..200 {
            if number % 15 == 0 {
                circuit.answered(Instant::now());
            }
            fails(&circuit, number);
        }
        assert!(is_admitted(&circuit, 0));
        assert!(!is_admitted(&opened(), 0));
    }

    #[tokio::test(start_paused = true)]
    async fn failed_connections_for_three_keys_open_the_breaker() {
        let circuit = Circuit::new();
        circuit.answered(Instant::now());
        for _ in 0..10 {
            assert!(!circuit.unreachable(key(1), Instant::now()));
        }
        circuit.unreachable(key(2), Instant::now());
        assert!(is_admitted(&circuit, 3));
        assert!(circuit.unreachable(key(3), Instant::now()));
        assert!(!is_admitted(&circuit, 3) && !circuit.is_up(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_lets_one_key_through_per_interval_and_an_answer_closes_it() {
        let circuit = opened();
        assert!(!is_admitted(&circuit, 1));
        advance(TRIAL_INTERVAL).await;
        assert!(is_admitted(&circuit, 1));
        assert!(!is_admitted(&circuit, 2), "one key per interval");
        assert!(!fails(&circuit, 1), "the breaker was open before");
        advance(TRIAL_INTERVAL).await;
        assert!(!is_admitted(&circuit, 1), "the same key is not tried again so soon");
        assert!(is_admitted(&circuit, 2), "another key is tried");
        assert!(circuit.answered(Instant::now()), "the first answer closes it");
        assert!(!circuit.answered(Instant::now()), "it is closed already");
        assert!(is_admitted(&circuit, 1) && is_admitted(&circuit, 3) && circuit.is_up(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_was_tried_without_success_is_tried_again_later() {
        let circuit = opened();
        advance(TRIAL_INTERVAL).await;
        assert!(is_admitted(&circuit, 1));
        advance(SAME_KEY_AFTER - Duration::from_millis(1)).await;
        assert!(!is_admitted(&circuit, 1));
        advance(Duration::from_millis(1)).await;
        assert!(is_admitted(&circuit, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_logged_once_and_not_too_often() {
        let health = AnswerHealth::default();
        assert!(!health.should_log(None, Instant::now()), "no change");
        assert!(health.should_log(Some(Trouble::Refused), Instant::now()));
        assert!(!health.should_log(Some(Trouble::Refused), Instant::now()));
        assert!(!health.should_log(None, Instant::now()), "too soon");
        advance(MIN_LOG_INTERVAL).await;
        assert!(!health.should_log(Some(Trouble::Refused), Instant::now()), "already logged");
        assert!(health.should_log(None, Instant::now()));
    }

    fn cached() -> Key {
        let store = StoreId::parse("S").expect("an id");
        Key { kind: Kind::IdentityKey, digest: Digest::from_bytes([1; 32]), store, channel: None }
    }

    fn insert(answers: &Answers, key: &Key, asked_at: Instant) {
        answers.insert(key.clone(), answers.generation(), asked_at, Registration::Revoked);
    }

    fn is_found(answers: &Answers, key: &Key) -> bool {
        answers.find(key, Instant::now()).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn answer_expires_one_ttl_after_its_request() {
        let (answers, key, asked_at) = (Answers::new(Duration::from_secs(5)), cached(), Instant::now());
        advance(Duration::from_secs(1)).await; // a slow answer
        insert(&answers, &key, asked_at);
        advance(Duration::from_millis(3_999)).await;
        assert!(is_found(&answers, &key));
        advance(Duration::from_millis(1)).await;
        assert!(!is_found(&answers, &key));
        answers.sweep(Instant::now());
        assert_eq!(answers.entries.len(), 0);
    }

    #[test]
    fn no_answer_is_kept_with_a_zero_ttl() {
        let answers = Answers::new(Duration::ZERO);
        insert(&answers, &cached(), Instant::now());
        assert_eq!(answers.entries.len(), 0);
    }
}
