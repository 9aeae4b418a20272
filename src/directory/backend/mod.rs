//! The identity backend: the retailer's own system. The connector looks up keys and tokens there, by HTTP, that
//! the directory does not have.
//!
//! `docs/identity-backend.md` is the contract. Guarantees: no scan waits longer than `directory.timeout`, at most
//! `directory.max_in_flight` look-up requests are in flight, and a key stays in memory no longer than its scan.
//!
//! A malformed answer counts as "key unknown". A missing answer is an error, of one of two kinds: the backend is down,
//! or only this key makes it fail. The difference matters, because a shopper must not be able to cause a fault for
//! other shoppers. If no other request was answered meanwhile, the connector looks up a made-up key to find out.

mod cache;
mod client;
mod guard;
mod metrics;

use std::pin::pin;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::select;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use client::SettingsError;
pub use client::{Credentials, Limits, Settings, parse_url};
pub(super) use metrics::register;

use super::{Directory, DirectoryError, Kind, Registration, ScanContext};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::domain::ids::StoreId;
use cache::{Cache, Key};
use client::{Answer, NoAnswer};
use guard::{AnswerHealth, Circuit};
use metrics::{Outcome, RemoteMetrics, Sent};

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

/// An identity backend.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    url: Url,
    limits: Limits,
    permits: Semaphore,
    circuit: Circuit,
    /// When the last failed probe was sent. The holder of the lock sends the probe.
    last_failed_probe: Mutex<Option<Instant>>,
    answer_health: AnswerHealth,
    cache: Cache,
    metrics: RemoteMetrics,
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

impl Remote {
    /// Sends nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { url, client, limits } = settings;
        Self {
            client,
            url,
            limits,
            permits: Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS)),
            circuit: Circuit::new(),
            last_failed_probe: Mutex::default(),
            answer_health: AnswerHealth::default(),
            cache: Cache::new(limits.cache_for),
            metrics: RemoteMetrics::default(),
        }
    }

    /// Whether the backend answers, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.circuit.is_up(Instant::now())
    }

    /// Whether the circuit breaker is open: no requests are sent, except for one trial every 250 ms.
    #[must_use]
    pub fn is_circuit_open(&self) -> bool {
        self.circuit.is_open()
    }

    /// The number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limits.max_in_flight.saturating_sub(self.permits.available_permits())
    }

    /// How long its answers are cached.
    pub(super) fn max_staleness(&self) -> Duration {
        self.cache.ttl()
    }

    /// Clears the cache.
    pub(super) fn clear_cache(&self) {
        self.cache.invalidate();
    }

    /// Removes expired entries from the cache.
    pub(super) fn sweep(&self) {
        self.cache.sweep(Instant::now());
    }

    /// Looks up a key or token. Dropping the future releases its permit.
    pub(super) async fn look_up(&self, request: LookupRequest<'_>) -> Result<Option<Registration>, DirectoryError> {
        let (began, generation, key) = (Instant::now(), self.cache.generation(), Key::from(&request));
        if let Some(found) = self.cache.find(&key, began) {
            self.metrics.answered_from_cache();
            return Ok(Some(found));
        }
        let subject = Subject::from(request.digest);
        if !self.circuit.admits(subject, began) {
            self.metrics.count(Outcome::NotAsked);
            return Err(unavailable("no request was sent, because the last requests got no answer"));
        }
        let Ok(Ok(_permit)) = timeout(PERMIT_TIMEOUT, self.permits.acquire()).await else {
            self.metrics.count(Outcome::Full);
            return Err(DirectoryError::Busy);
        };
        let found = self.ask(&request, subject).await?;
        if let Some(registration) = &found {
            self.cache.insert(&key, generation, began, registration.clone());
        }
        Ok(found)
    }

    async fn ask(&self, request: &LookupRequest<'_>, subject: Subject) -> Result<Option<Registration>, DirectoryError> {
        let sent = self.metrics.sent();
        let asked = Instant::now();
        let until = self.deadline(request.context, asked);
        let half = asked.checked_add(self.limits.timeout.checked_div(2).unwrap_or_default()).unwrap_or(until);
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
                sent.finish(Outcome::Unavailable);
                return Err(self.fail(self.circuit.unreachable(subject, now), &cause));
            }
            Ok(Err(NoAnswer::Failed(cause))) => {
                sent.finish(Outcome::Unavailable);
                (cause, true)
            }
            Err(_) => {
                sent.finish(Outcome::Timeout);
                // A request cut short by the scan's deadline shows nothing about the backend.
                let had_full_timeout = now.saturating_duration_since(asked) >= self.limits.timeout;
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
        client::ask(&self.client, &self.url, request).await
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
        let _sent = self.metrics.made_up();
        self.send(&LookupRequest { value: &key, ..*request }).await?;
        self.note_answer(Instant::now());
        Ok(())
    }

    /// Checks the backend periodically while no scan uses it, by a look-up of a key that the connector makes up. Never
    /// returns. The checks name the first store of the directory; without a store there
    /// are no checks, as there can be no scan.
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
        match timeout(self.limits.timeout, self.ask_made_up(&request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NoAnswer::Unreachable(cause) | NoAnswer::Failed(cause))) => Err(cause),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Tells the circuit breaker about an answer.
    fn note_answer(&self, now: Instant) {
        if self.circuit.answered(now) {
            tracing::info!("the identity backend answers again");
        }
    }

    fn handle(&self, answer: Answer, sent: Sent<'_>, now: Instant) -> Result<Option<Registration>, DirectoryError> {
        match answer {
            Answer::Known(registration) => {
                sent.finish(Outcome::Found);
                self.answer_health.valid(now);
                Ok(Some(registration))
            }
            Answer::Unknown => {
                sent.finish(Outcome::NotFound);
                self.answer_health.valid(now);
                Ok(None)
            }
            Answer::Refused(status) => {
                sent.finish(Outcome::Refused);
                self.answer_health.refused(status, now);
                Ok(None)
            }
            Answer::Malformed(error) => {
                sent.finish(Outcome::Malformed);
                self.answer_health.malformed(&error, now);
                Ok(None)
            }
            Answer::TooManyRequests => {
                sent.finish(Outcome::Busy);
                Err(DirectoryError::Busy)
            }
        }
    }

    /// When a request times out.
    fn deadline(&self, context: &ScanContext, now: Instant) -> Instant {
        let own = now.checked_add(self.limits.timeout).unwrap_or(now);
        own.min(context.deadline.checked_sub(DEADLINE_MARGIN).unwrap_or(now))
    }

    /// The error of a failed look-up. Logs it if the failure opened the circuit breaker.
    fn fail(&self, has_opened: bool, cause: &str) -> DirectoryError {
        if has_opened {
            let url = self.url.as_str();
            tracing::warn!(url, error = cause, "the identity backend does not answer: scans get a 500 until it does");
        }
        unavailable(cause)
    }
}

fn unavailable(cause: &str) -> DirectoryError {
    DirectoryError::Unavailable(format!("identity backend: {cause}"))
}
