//! OpenID providers, which authenticate the retailer's customers.
//!
//! Keys are fetched in the background and kept while the provider is down. A request waits for a provider only if no
//! known key verifies its token, and only briefly.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Algorithm;
use reqwest::Url;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};

use crate::cache::{Cache, keeping_used};
use crate::domain::customer::Customer;
use crate::domain::ids::{Issuer, SubjectId};
use crate::outgoing::is_plain_loopback;
use crate::shopper::AuthenticationError;
use crate::shopper::key_set::{Counts, KeySet, MAX_KEYS, fetch};
use crate::shopper::tokens::{Refusal, Unverified};

/// How often known keys are refreshed. A key that the provider has withdrawn is accepted for up to this time.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// The minimum and maximum pause between a failed fetch and the next one.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a request waits for a fetch that may return the key of its token.
const KEY_WAIT_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of requests that wait at the same time. Each holds a connection, and any client can make up such
/// a token.
const MAX_WAITING_REQUESTS: usize = 32;
/// The token types that are accepted, if a token has a `typ`: access tokens (RFC 9068) and plain JWTs.
const TOKEN_TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// The minimum time between two fetches for customers whose tokens were valid before.
const CUSTOMER_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// The minimum time between two fetches for all other tokens.
const OTHER_INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// The maximum number of remembered customers. When it is reached, each new customer replaces one whose tokens were not
/// used recently.
const MAX_REMEMBERED: usize = 100_000;

/// The configuration of a provider.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// The provider's name in the log and in metrics.
    pub name: String,
    pub issuer: Issuer,
    /// The accepted audiences; a token must have one of these.
    pub audiences: Vec<String>,
    /// The algorithms that the provider may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the customer.
    pub customer_claim: String,
    /// Whether an unknown customer becomes a new shopper.
    pub creates_shoppers: bool,
}

/// Whether a text is valid as a provider's issuer: an HTTPS URL, or plain HTTP on loopback. Otherwise another host
/// could answer with its own keys.
pub(crate) fn is_issuer(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        is_plain && (url.scheme() == "https" || is_plain_loopback(&url))
    })
}

/// A provider, and the keys of the last successful fetch.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(super) settings: ProviderSettings,
    state: watch::Sender<State>,
    /// Wakes the task that fetches keys.
    wanted: Notify,
    /// Limits how often tokens may wake that task.
    budget: FetchBudget,
    /// The permits of requests that wait for a fetch.
    waiting: Semaphore,
}

#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Whether a fetch is running or about to start.
    is_fetching: bool,
    failures: u64,
}

impl Provider {
    /// A provider without keys; [`Provider::refresh_keys`] fetches them.
    pub(crate) fn new(settings: ProviderSettings) -> Self {
        let state = State { is_fetching: true, ..State::default() };
        let (state, waiting) = (watch::Sender::new(state), Semaphore::new(MAX_WAITING_REQUESTS));
        Self { settings, state, wanted: Notify::new(), budget: FetchBudget::default(), waiting }
    }

    /// The number of known keys.
    pub(crate) fn keys(&self) -> usize {
        self.known_keys().map_or(0, |keys| keys.counts.kept)
    }

    fn known_keys(&self) -> Option<Arc<KeySet>> {
        self.state.borrow().keys.clone()
    }

    /// The number of failed fetches.
    pub(crate) fn failures(&self) -> u64 {
        self.state.borrow().failures
    }

    /// Fetches the keys and refreshes them periodically. Never returns.
    pub(crate) async fn refresh_keys(self: Arc<Self>) {
        let mut backoff = BACKOFF.0;
        loop {
            self.state.send_modify(|state| state.is_fetching = true);
            let fetched = fetch(&self.settings).await;
            let provider = &self.settings.name;
            let pause = match fetched {
                Ok(keys) => {
                    let (before, now) = (self.known_keys().map(|keys| keys.counts), keys.counts);
                    if backoff > BACKOFF.0 || before != Some(now) {
                        let Counts { kept, rejected, .. } = now;
                        tracing::info!(
                            provider,
                            keys = kept,
                            unfit = rejected,
                            "fetched the keys of the identity provider"
                        );
                    }
                    if now.over_limit > 0 && before.is_none_or(|before| before.over_limit != now.over_limit) {
                        tracing::warn!(
                            provider,
                            dropped = now.over_limit,
                            "the identity provider publishes more than {MAX_KEYS} keys and the last ones are ignored: tokens signed with \
                             these get 401 unknown_signing_key. Have unused keys withdrawn"
                        );
                    }
                    backoff = BACKOFF.0;
                    self.state.send_modify(|state| (state.keys, state.is_fetching) = (Some(Arc::new(keys)), false));
                    REFRESH
                }
                Err(error) => {
                    if self.keys() == 0 {
                        // Warn on each failure, at most once a minute later on: until a fetch succeeds, no customer of
                        // this provider can sign in.
                        tracing::warn!(provider, %error, "could not fetch the keys of the identity provider, and none are known: its customers get 503 until a fetch succeeds");
                    } else if backoff == BACKOFF.0 {
                        tracing::warn!(provider, %error, "could not fetch the keys of the identity provider; keeping the previous keys");
                    }
                    self.state.send_modify(|state| {
                        state.is_fetching = false;
                        state.failures = state.failures.saturating_add(1);
                    });
                    let pause = backoff;
                    backoff = backoff.saturating_mul(2).min(BACKOFF.1);
                    pause
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// The customer that a token names. Before the request waits for keys, `count_request` is awaited.
    pub(super) async fn verify(
        &self,
        token: &Unverified<'_>,
        now: DateTime<Utc>,
        count_request: impl Future<Output = Result<(), Duration>>,
    ) -> Result<Customer, AuthenticationError> {
        let ProviderSettings { issuer, audiences, algorithms, customer_claim, .. } = &self.settings;
        if !algorithms.contains(&token.algorithm) {
            return Err(Refusal::AlgorithmNotAllowed.into());
        }
        let is_type = |kind: &str| TOKEN_TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind));
        if !token.kind.as_deref().is_none_or(is_type) {
            return Err(Refusal::WrongType.into());
        }
        // Check the claims before the signature, so that a token with invalid claims never causes a fetch of keys.
        token.check_claims(audiences, now)?;
        let subject = token.text(customer_claim).filter(|subject| !subject.contains('\0'));
        let subject = subject.and_then(|subject| SubjectId::parse(subject).ok()).ok_or(Refusal::NoCustomer)?;
        let check = |keys: &KeySet| {
            let keys = keys.find(token.key_id.as_deref(), token.algorithm);
            match keys.iter().any(|key| token.is_signed_by(key)) {
                true => Ok(()),
                false if keys.is_empty() => Err(Refusal::UnknownKey),
                false => Err(Refusal::WrongSignature),
            }
        };
        let known_keys = self.known_keys();
        if known_keys.as_deref().is_none_or(|keys| check(keys).is_err()) {
            // The provider may have replaced a key under the same id, or without an id, so fetch the keys again.
            count_request.await.map_err(AuthenticationError::RateLimited)?;
            let _permit = self.waiting.try_acquire().map_err(|_| AuthenticationError::TooManyWaiting)?;
            let keys = self.keys_after_fetch(&subject, known_keys.is_some(), now).await;
            check(&*keys.ok_or(AuthenticationError::ProviderUnavailable)?)?;
        }
        self.budget.remember(&subject);
        Ok(Customer::Known { issuer: issuer.clone(), subject })
    }

    /// The keys after a fetch, if one is running or this customer's token may cause one now; otherwise the known keys.
    async fn keys_after_fetch(&self, customer: &SubjectId, has_keys: bool, now: DateTime<Utc>) -> Option<Arc<KeySet>> {
        let mut state = self.state.subscribe();
        let is_wanted = self.state.send_if_modified(|state| {
            let is_wanted = has_keys && !state.is_fetching && self.budget.spend(customer, now);
            state.is_fetching |= is_wanted;
            is_wanted
        });
        if is_wanted {
            self.wanted.notify_one();
        }
        let fetched = timeout(KEY_WAIT_TIMEOUT, state.wait_for(|state| !state.is_fetching)).await;
        drop(fetched);
        self.known_keys()
    }
}

/// Limits how often tokens may cause a fetch of a provider's keys before the next refresh. Any client can make up a
/// token that no known key verifies. So customers whose tokens were valid before have a separate budget, which made-up
/// tokens cannot use up: after a key change, the first of these customers causes a fetch, whatever other clients send.
/// The two budgets together limit the requests to the provider.
#[derive(Debug)]
struct FetchBudget {
    /// Keyed at random, so that no client can choose a customer id whose hash collides with another's.
    hasher: RandomState,
    /// Hashes of customers whose tokens were valid.
    customers: Cache<u64, ()>,
    /// The last fetch for one of these customers, and the last one for any other token.
    last: Mutex<[Option<DateTime<Utc>>; 2]>,
}

impl Default for FetchBudget {
    fn default() -> Self {
        Self { hasher: RandomState::new(), customers: keeping_used(MAX_REMEMBERED), last: Mutex::default() }
    }
}

impl FetchBudget {
    /// Remembers a customer whose token was valid.
    fn remember(&self, customer: &SubjectId) {
        let hash = self.hasher.hash_one(customer);
        if self.customers.get(&hash).is_none() {
            self.customers.insert(hash, ());
        }
    }

    /// Whether a token that names this customer may cause a fetch now. If so, the fetch uses up the budget.
    fn spend(&self, customer: &SubjectId, now: DateTime<Utc>) -> bool {
        let is_known = self.customers.contains_key(&self.hasher.hash_one(customer));
        let mut fetches = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let [for_customers, for_others] = &mut *fetches;
        let (last, interval) = if is_known { (for_customers, CUSTOMER_INTERVAL) } else { (for_others, OTHER_INTERVAL) };
        // A clock that was set back does not prevent fetches.
        let may_fetch = last.is_none_or(|last| now.signed_duration_since(last).abs() >= interval);
        if may_fetch {
            *last = Some(now);
        }
        may_fetch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_with_recent_tokens_are_remembered_beyond_the_limit() {
        let budget = FetchBudget::default();
        let customer = |number: usize| SubjectId::parse(&number.to_string()).expect("a subject");
        let now = DateTime::UNIX_EPOCH;
        for number in 0..=2 * MAX_REMEMBERED {
            budget.remember(&customer(number));
            budget.remember(&customer(1));
        }
        assert!(budget.spend(&customer(1), now), "with many tokens");
        assert!(!budget.spend(&customer(2 * MAX_REMEMBERED), now), "the last one is a customer too");
        assert!(budget.spend(&SubjectId::parse("made-up").expect("a subject"), now));
        assert!(budget.customers.len() <= MAX_REMEMBERED);
    }
}
