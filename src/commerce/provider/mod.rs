//! OpenID providers: whom the retailer has vouch for its customers.
//!
//! Keys are fetched in the background and kept when the provider is down: no request waits for a provider, but one whose token no known
//! key verifies, and that one briefly.

mod budget;
mod fetch;
mod key_set;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use reqwest::Url;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::AuthenticationError;
use super::claims;
use super::jws::Unverified;
use super::refusal::Refusal;
use crate::domain::customer::Customer;
use crate::domain::ids::{Issuer, SubjectId};
use crate::loopback::is_plain_loopback;
use budget::FetchBudget;
use fetch::fetch;
use key_set::{Counts, KeySet, MOST_KEYS};

/// How often keys are fetched that are there already: for so long one counts that its provider has withdrawn.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// The least and the most that passes after a failure until the next attempt.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// How long a request waits for a fetch that may bring the key it needs.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many requests wait at once: each holds a connection, and its token is one that anybody can make up.
const WAITING: usize = 32;
/// The kinds of token that are taken, by their `typ`, if they have one: access tokens (RFC 9068) and plain ones.
const KINDS: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// A provider as it is configured.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// What it is called in the log and in metrics.
    pub name: String,
    /// Its name for itself, a URL.
    pub issuer: Issuer,
    /// What its tokens must be meant for: one of these.
    pub audiences: Vec<String>,
    /// What it may sign with.
    pub algorithms: Vec<Algorithm>,
    /// The claim that names the customer.
    pub customer_claim: String,
    /// Whether a customer who is nobody in the directory becomes a new shopper.
    pub creates_shoppers: bool,
}

/// Whether a text can be a provider's issuer: its keys must not be fetched where others can answer.
#[must_use]
pub fn is_issuer(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        is_plain && (url.scheme() == "https" || is_plain_loopback(&url))
    })
}

/// A provider and its keys as they were last fetched.
pub struct Provider {
    settings: ProviderSettings,
    state: watch::Sender<State>,
    /// Wakes the task that fetches.
    wanted: Notify,
    /// How often tokens may wake it.
    budget: FetchBudget,
    /// For requests that wait for a fetch.
    waiting: Semaphore,
}

#[derive(Clone, Debug, Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Whether a fetch is under way or about to begin.
    is_fetching: bool,
    failures: u64,
}

impl Provider {
    /// Without keys: [`Provider::keep_up`] fetches them.
    #[must_use]
    pub fn new(settings: ProviderSettings) -> Self {
        let state = State { is_fetching: true, ..State::default() };
        let (state, waiting) = (watch::Sender::new(state), Semaphore::new(WAITING));
        Self { settings, state, wanted: Notify::new(), budget: FetchBudget::default(), waiting }
    }

    /// As it is configured.
    #[must_use]
    pub fn settings(&self) -> &ProviderSettings {
        &self.settings
    }

    /// How many of its keys are known.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.known().map_or(0, |keys| keys.counts().kept)
    }

    fn known(&self) -> Option<Arc<KeySet>> {
        self.state.borrow().keys.clone()
    }

    /// How often fetching them has failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.state.borrow().failures
    }

    /// Fetches the keys, again and again, for ever.
    pub async fn keep_up(self: Arc<Self>) {
        let mut backoff = BACKOFF.0;
        loop {
            self.state.send_modify(|state| state.is_fetching = true);
            let fetched = fetch(&self.settings).await;
            let provider = &self.settings.name;
            let rest = match fetched {
                Ok(keys) => {
                    let (before, now) = (self.known().as_deref().map(KeySet::counts), keys.counts());
                    if backoff > BACKOFF.0 || before != Some(now) {
                        let Counts { kept, unfit, .. } = now;
                        tracing::info!(provider, keys = kept, unfit, "keys of the identity provider fetched");
                    }
                    if now.dropped > 0 && before.is_none_or(|before| before.dropped != now.dropped) {
                        tracing::warn!(
                            provider,
                            dropped = now.dropped,
                            "the identity provider publishes more than {MOST_KEYS} keys, and the last ones are not kept: a token that one of \
                             these has signed gets a 401 unknown_signing_key. Have keys withdrawn that are no longer used"
                        );
                    }
                    backoff = BACKOFF.0;
                    self.state.send_modify(|state| (state.keys, state.is_fetching) = (Some(Arc::new(keys)), false));
                    REFRESH
                }
                Err(error) => {
                    if self.keys() == 0 {
                        // Again each time, which comes to be once a minute: until then nobody gets in.
                        tracing::warn!(provider, %error, "keys of the identity provider cannot be fetched, and none are known: its customers get a 503");
                    } else if backoff == BACKOFF.0 {
                        tracing::warn!(provider, %error, "keys of the identity provider cannot be fetched; those known are kept");
                    }
                    self.state.send_modify(|state| {
                        state.is_fetching = false;
                        state.failures = state.failures.saturating_add(1);
                    });
                    let rest = backoff;
                    backoff = backoff.saturating_mul(2).min(BACKOFF.1);
                    rest
                }
            };
            tokio::select! {
                () = sleep(rest) => {}
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Whom a token names. Before a request waits for keys, `charge` is awaited.
    ///
    /// # Errors
    /// When it does not hold, the provider's keys were never fetched, too many requests wait for them, or `charge` fails.
    pub(super) async fn verify(
        &self,
        token: &Unverified<'_>,
        now: DateTime<Utc>,
        charge: impl Future<Output = Result<(), Duration>>,
    ) -> Result<Customer, AuthenticationError> {
        let ProviderSettings { issuer, audiences, algorithms, customer_claim, .. } = &self.settings;
        if !algorithms.contains(&token.algorithm) {
            return Err(Refusal::AlgorithmNotAllowed.into());
        }
        let is_of = |kind: &str| KINDS.iter().any(|known| known.eq_ignore_ascii_case(kind));
        if !token.kind.as_deref().is_none_or(is_of) {
            return Err(Refusal::WrongType.into());
        }
        // Before the signature: what does not hold anyway need not make anybody look for keys.
        claims::check(token, audiences, now)?;
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
        let known = self.known();
        if known.as_deref().is_none_or(|keys| check(keys).is_err()) {
            // A signature that fails under a key that fits may be one of a new key: under the same name, or where keys have none.
            charge.await.map_err(AuthenticationError::RateLimited)?;
            let _permit = self.waiting.try_acquire().map_err(|_| AuthenticationError::TooManyWait)?;
            let keys = self.fetched_anew(&subject, known.is_some(), now).await;
            check(&*keys.ok_or(AuthenticationError::ProviderUnavailable)?)?;
        }
        self.budget.remember(&subject);
        Ok(Customer::Known { issuer: issuer.clone(), subject })
    }

    /// The keys after a fetch, if one is under way or this customer's token may cause one now; else those that are known.
    async fn fetched_anew(&self, customer: &SubjectId, has_keys: bool, now: DateTime<Utc>) -> Option<Arc<KeySet>> {
        let mut state = self.state.subscribe();
        let is_wanted = self.state.send_if_modified(|state| {
            let is_wanted = has_keys && !state.is_fetching && self.budget.spend(customer, now);
            state.is_fetching |= is_wanted;
            is_wanted
        });
        if is_wanted {
            self.wanted.notify_one();
        }
        let fetched = timeout(PATIENCE, state.wait_for(|state| !state.is_fetching)).await;
        drop(fetched);
        self.known()
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("settings", &self.settings).finish_non_exhaustive()
    }
}
