//! The identity backend: the retailer's own system, in which the connector looks up, by HTTP, the keys and tokens that
//! the directory does not have.
//!
//! `docs/identity-backend.md` is the contract. Guarantees: no scan waits longer than `directory.timeout`; at most
//! `directory.max_in_flight` look-up requests are in flight, and one probe; a key stays in memory no longer than its
//! scan.
//!
//! A malformed answer counts as "key unknown". A missing answer is an error, of one of two kinds: the backend is down,
//! or only this key makes it fail. The difference matters, because a shopper must not be able to cause a fault for
//! other shoppers. If no other request was answered meanwhile, the connector looks up a made-up key to find out.

mod client;
mod guard;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::select;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use client::SettingsError;
pub use client::{Credentials, Limits, Settings, parse_url};

use super::{Directory, DirectoryError, Kind, Registration, ScanContext};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::domain::ids::StoreId;
use crate::observe::metrics::{metrics, readings};
use client::{Answer, NoAnswer};
use guard::{AnswerHealth, Answers, Circuit, Key};

/// How long each look-up waits for a permit: long enough for a short burst.
const PERMIT_TIMEOUT: Duration = Duration::from_millis(20);
/// How long before the scan's deadline a look-up request times out, so that the scan can still be answered.
const DEADLINE_MARGIN: Duration = Duration::from_millis(100);
/// The interval of checks while no request is answered.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The time from a failed check to the next one.
const RETRY_CHECK_AFTER: Duration = Duration::from_millis(500);
/// The prefix of the keys that the connector makes up, so that the retailer can recognize them. 18 random hexadecimal
/// digits follow, so that a key has the form of a recognition token too.
const MADE_UP_PREFIX: &str = "connectorprobe";
/// Upper bounds in seconds: fine for normal answer times, and up to the longest time-out.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.8, 1.2];

/// An identity backend.
#[derive(Debug)]
pub struct IdentityBackend {
    settings: Settings,
    permits: Semaphore,
    circuit: Circuit,
    /// When the last failed probe was sent. The holder of the lock sends the probe.
    last_failed_probe: Mutex<Option<Instant>>,
    answer_health: AnswerHealth,
    answers: Answers,
    metrics: BackendMetrics,
}

/// A request to the backend: to which shopper does this key or token belong?
#[derive(Clone, Copy)]
pub(super) struct LookupRequest<'a> {
    pub(super) kind: Kind,
    /// The key or token itself.
    pub(super) value: &'a str,
    pub(super) digest: Digest,
    pub(super) context: &'a ScanContext,
}

impl IdentityBackend {
    /// Sends nothing yet.
    pub fn new(settings: Settings) -> Self {
        let limits = settings.limits;
        Self {
            settings,
            permits: Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS)),
            circuit: Circuit::new(),
            last_failed_probe: Mutex::default(),
            answer_health: AnswerHealth::default(),
            answers: Answers::new(limits.cache_for),
            metrics: BackendMetrics::default(),
        }
    }

    /// Whether the backend answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.circuit.is_up(Instant::now())
    }

    /// Whether the circuit breaker is open: no requests are sent, except for one trial every 250 ms.
    pub fn is_circuit_open(&self) -> bool {
        self.circuit.is_open()
    }

    /// The number of requests in flight.
    pub fn in_flight(&self) -> usize {
        self.settings.limits.max_in_flight.saturating_sub(self.permits.available_permits())
    }

    pub(super) fn max_staleness(&self) -> Duration {
        self.settings.limits.cache_for
    }

    pub(super) fn clear_cache(&self) {
        self.answers.invalidate();
    }

    pub(super) fn sweep(&self) {
        self.answers.sweep(Instant::now());
    }

    /// Looks up a key or token. Dropping the future releases its permit.
    pub(super) async fn look_up(&self, request: LookupRequest<'_>) -> Result<Option<Registration>, DirectoryError> {
        let (began, generation, key) = (Instant::now(), self.answers.generation(), Key::from(&request));
        if let Some(found) = self.answers.find(&key, began) {
            self.metrics.identity_backend_remembered.inc();
            return Ok(Some(found));
        }
        let subject = Subject::from(request.digest);
        if !self.circuit.admits(subject, began) {
            self.metrics.count("not_asked");
            return Err(unavailable("no request was sent, because the last requests got no answer"));
        }
        let Ok(Ok(_permit)) = timeout(PERMIT_TIMEOUT, self.permits.acquire()).await else {
            self.metrics.count("full");
            return Err(DirectoryError::Busy);
        };
        let found = self.ask(&request, subject).await?;
        if let Some(registration) = &found {
            self.answers.insert(key, generation, began, registration.clone());
        }
        Ok(found)
    }

    async fn ask(&self, request: &LookupRequest<'_>, subject: Subject) -> Result<Option<Registration>, DirectoryError> {
        let sent = self.metrics.sent("abandoned");
        let asked = Instant::now();
        let until = self.deadline(request.context, asked);
        let half = asked.checked_add(self.settings.limits.timeout.checked_div(2).unwrap_or_default()).unwrap_or(until);
        let mut asking = pin!(timeout_at(until, self.send(request)));
        let mut probing = pin!(timeout_at(until, self.answers_others(request, asked)));
        let mut probe_result = None;
        let answer = match timeout_at(half, asking.as_mut()).await {
            Ok(answer) => answer,
            // The answer is late. Start the probe now: after the time-out it would be too late to find out whether the
            // key is the cause.
            Err(_) => loop {
                select! {
                    biased;
                    answer = asking.as_mut() => break answer,
                    probed = probing.as_mut(), if probe_result.is_none() => probe_result = Some(probed),
                }
            },
        };
        let now = Instant::now();
        let (cause, counts) = match answer {
            Ok(Ok(answer)) => {
                self.note_answer(now);
                return self.handle(answer, sent, now);
            }
            Ok(Err(NoAnswer::Unreachable(cause))) => {
                sent.finish("unavailable");
                return Err(self.fail(self.circuit.unreachable(subject, now), &cause));
            }
            Ok(Err(NoAnswer::Failed(cause))) => {
                sent.finish("unavailable");
                (cause, true)
            }
            Err(_) => {
                sent.finish("timeout");
                // A request cut short by the scan's deadline shows nothing about the backend.
                let had_full_timeout = now.saturating_duration_since(asked) >= self.settings.limits.timeout;
                ("no answer in time".to_owned(), had_full_timeout)
            }
        };
        let probe_result = match probe_result {
            Some(probed) => probed,
            None => probing.await,
        };
        if probe_result.unwrap_or(false) {
            return Err(DirectoryError::NoAnswerForKey(format!("identity backend: {cause}")));
        }
        Err(self.fail(counts && self.circuit.unanswered(subject, now), &cause))
    }

    async fn send(&self, request: &LookupRequest<'_>) -> Result<Answer, NoAnswer> {
        client::ask(&self.settings, request).await
    }

    /// Whether the backend has answered any request since this one was sent. If not, sends a probe: a look-up of a
    /// made-up key. There is one probe at a time, and its outcome applies to all requests that were sent before it.
    async fn answers_others(&self, request: &LookupRequest<'_>, asked: Instant) -> bool {
        if self.circuit.is_answered_since(asked) {
            return true;
        }
        let mut last_failed = self.last_failed_probe.lock().await;
        if self.circuit.is_answered_since(asked) {
            return true;
        }
        if last_failed.is_some_and(|at| at >= asked) {
            return false;
        }
        let now = Instant::now();
        if self.ask_made_up(request).await.is_ok() {
            return true;
        }
        *last_failed = Some(now);
        false
    }

    /// Looks up a key that the connector makes up, which no shopper can choose. Any answer shows that the backend is
    /// up.
    async fn ask_made_up(&self, request: &LookupRequest<'_>) -> Result<(), NoAnswer> {
        let mut random = [0; 9];
        getrandom::fill(&mut random).map_err(|error| NoAnswer::Failed(error.to_string()))?;
        let key = format!("{MADE_UP_PREFIX}{}", hex::encode(random));
        let _sent = self.metrics.sent("made_up");
        self.send(&LookupRequest { value: &key, ..*request }).await?;
        self.note_answer(Instant::now());
        Ok(())
    }

    /// Checks the backend periodically while no scan uses it, by a look-up of a key that the connector makes up. Never
    /// returns. The checks name the first store of the directory; without a store there are no checks, as there can be
    /// no scan.
    ///
    /// Three checks without an answer, with no other answer in between, show that the backend is down: no shopper can
    /// choose these keys.
    pub(crate) async fn run_checks(&self, directory: &Directory) {
        let mut failed = 0_u64;
        loop {
            sleep(if failed == 0 { CHECK_INTERVAL } else { RETRY_CHECK_AFTER }).await;
            let since = Instant::now().checked_sub(CHECK_INTERVAL);
            if !self.is_circuit_open() && since.is_some_and(|since| self.circuit.is_answered_since(since)) {
                failed = 0;
                continue;
            }
            // Without a free permit, scans are using the backend, so a check is not needed.
            let Ok(_permit) = self.permits.try_acquire() else { continue };
            let Some(store) = directory.stores(None, 1).await.unwrap_or_default().pop() else { continue };
            match self.check(store.id).await {
                Ok(()) => failed = 0,
                Err(cause) => {
                    failed = failed.saturating_add(1);
                    let mut key = [0; 32];
                    key[..8].copy_from_slice(&failed.to_be_bytes());
                    let has_opened = self.circuit.unreachable(Digest::from_bytes(key).into(), Instant::now());
                    let error = self.fail(has_opened, &cause);
                    tracing::debug!(%error, "the check of the identity backend failed");
                }
            }
        }
    }

    async fn check(&self, store: StoreId) -> Result<(), String> {
        let (digest, deadline) = (Digest::from_bytes([0; 32]), Instant::now());
        let context = ScanContext { subject: digest.into(), store, channel: None, deadline };
        let request = LookupRequest { kind: Kind::IdentityKey, value: "", digest, context: &context };
        match timeout(self.settings.limits.timeout, self.ask_made_up(&request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NoAnswer::Unreachable(cause) | NoAnswer::Failed(cause))) => Err(cause),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    fn note_answer(&self, now: Instant) {
        if self.circuit.answered(now) {
            tracing::info!("the identity backend answers again");
        }
    }

    fn handle(&self, answer: Answer, sent: Sent<'_>, now: Instant) -> Result<Option<Registration>, DirectoryError> {
        match answer {
            Answer::Known(registration) => {
                sent.finish("found");
                self.answer_health.valid(now);
                Ok(Some(registration))
            }
            Answer::Unknown => {
                sent.finish("not_found");
                self.answer_health.valid(now);
                Ok(None)
            }
            Answer::Refused(status) => {
                sent.finish("refused");
                self.answer_health.refused(status, now);
                Ok(None)
            }
            Answer::Malformed(error) => {
                sent.finish("malformed");
                self.answer_health.malformed(&error, now);
                Ok(None)
            }
            Answer::TooManyRequests => {
                sent.finish("busy");
                Err(DirectoryError::Busy)
            }
        }
    }

    fn deadline(&self, context: &ScanContext, now: Instant) -> Instant {
        let own = now.checked_add(self.settings.limits.timeout).unwrap_or(now);
        own.min(context.deadline.checked_sub(DEADLINE_MARGIN).unwrap_or(now))
    }

    /// The error of a failed look-up. Logs it if the failure opened the circuit breaker.
    fn fail(&self, has_opened: bool, cause: &str) -> DirectoryError {
        if has_opened {
            let url = self.settings.url.as_str();
            tracing::warn!(url, error = cause, "the identity backend does not answer: scans get a 500 until it does");
        }
        unavailable(cause)
    }
}

fn unavailable(cause: &str) -> DirectoryError {
    DirectoryError::Unavailable(format!("identity backend: {cause}"))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

metrics! {
    #[derive(Debug)]
    struct BackendMetrics {
        /// Requests to the identity backend, by outcome. Growth of refused or malformed without growth of found means
        /// that gates that need it do not open.
        identity_backend_questions: Family<OutcomeLabel, Counter>,
        /// Seconds from sending a request to the identity backend to the end of its answer or of the wait. Values near
        /// directory.timeout mean a slow backend.
        identity_backend_seconds: Histogram = Histogram::new(BUCKETS),
        /// Keys and tokens answered from earlier answers of the identity backend (directory.cache_for), without a
        /// request.
        identity_backend_remembered: Counter,
    }
}

/// Adds the metrics of the identity backend, if the directory has one, to a registry.
pub(super) fn register(directory: &Arc<Directory>, registry: &mut Registry) {
    let Some(backend) = directory.backend() else { return };
    backend.metrics.register(registry);
    readings! { registry, directory = directory;
        /// Requests to the identity backend in flight. When this equals directory.max_in_flight, further scans that
        /// need the backend get 429.
        gauge identity_backend_in_flight = directory.backend().map(IdentityBackend::in_flight);
        /// 1 while the identity backend answers, as far as is known; 0 after repeated requests without an answer, until
        /// one is answered.
        gauge identity_backend_up = directory.backend().map(IdentityBackend::is_up);
    }
}

impl BackendMetrics {
    /// Counts a request that is not sent, or that has ended. `docs/metrics.md` lists the outcomes.
    fn count(&self, outcome: &'static str) {
        self.identity_backend_questions.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Starts the timer of a request that is sent now. `outcome` is counted unless [`Sent::finish`] gives another one.
    fn sent(&self, outcome: &'static str) -> Sent<'_> {
        Sent { metrics: self, at: Instant::now(), outcome }
    }
}

/// A request in flight. It is counted when this is dropped.
struct Sent<'a> {
    metrics: &'a BackendMetrics,
    at: Instant,
    outcome: &'static str,
}

impl Sent<'_> {
    fn finish(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.metrics.identity_backend_seconds.observe(self.at.elapsed().as_secs_f64());
        self.metrics.count(self.outcome);
    }
}
