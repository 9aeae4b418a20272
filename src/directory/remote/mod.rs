//! The retailer's own system, asked over HTTP who a key or token belongs to that is not known here: the identity backend.
//!
//! `docs/identity-backend.md` is the contract. Whatever it does, nobody waits longer than its time, no more questions are under way than
//! it has places, and a key is in memory no longer than its scan. What it says of a key counts as a fact; what it should not say, as that it
//! does not know the key. That it says nothing is an error, and told apart: an illness of its own from what a single key brings about,
//! since a shopper must not be able to provoke a fault. Where nothing else was answered meanwhile, a key that the connector makes up tells.

mod cache;
mod check;
mod circuit;
mod client;
mod figures;
mod settings;
mod standing;
mod wire;

use std::pin::pin;
use std::time::Duration;

use reqwest::{Client, Url};
use tokio::select;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

pub use figures::Figures;
pub use settings::{Credentials, Limits, Settings, SettingsError, parse_url};

use super::{Asker, DirectoryError, Kind, Registration};
use crate::breaker::Subject;
use crate::digest::Digest;
use cache::{Cache, Key};
use circuit::Circuit;
use client::{Said, Silence};
use figures::{Outcome, Sent};
use standing::Standing;

/// How long a place is waited for: a moment, in which a burst passes.
const QUEUE: Duration = Duration::from_millis(20);
/// How long before a scan's deadline its question ends, so that it is known what came of it.
const SPARE: Duration = Duration::from_millis(100);

/// How a made-up key begins that is asked about after a scan's; 18 random digits follow, so that it has the form of a recognition token too.
const AFTER_A_SCAN: &str = "connectorprobe";

/// An identity backend.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    url: Url,
    limits: Limits,
    places: Semaphore,
    circuit: Circuit,
    /// When the last made-up key was asked about that was not answered. The holder of the lock asks about one.
    no_sign_of_life: Mutex<Option<Instant>>,
    standing: Standing,
    cache: Cache,
    figures: Figures,
}

/// A question: who does this belong to?
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) kind: Kind,
    /// The key or token itself.
    pub(super) value: &'a str,
    pub(super) digest: Digest,
    pub(super) asker: &'a Asker,
}

impl Remote {
    /// The one that these settings describe; it is not asked yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let Settings { url, client, limits } = settings;
        Self {
            client,
            url,
            limits,
            places: Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS)),
            circuit: Circuit::new(),
            no_sign_of_life: Mutex::default(),
            standing: Standing::default(),
            cache: Cache::new(limits.cache_for),
            figures: Figures::new(),
        }
    }

    /// Whether it answers, as far as is known.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.circuit.is_up(Instant::now())
    }

    /// Whether it is not asked any more, but for one question every so often.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.circuit.is_open()
    }

    /// What is counted.
    #[must_use]
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// How many questions are under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.limits.max_in_flight.saturating_sub(self.places.available_permits())
    }

    /// For how long its answers are remembered.
    pub(super) fn believed_for(&self) -> Duration {
        self.cache.keeps_for()
    }

    /// Nothing that it has said until now counts any more.
    pub(super) fn forget(&self) {
        self.cache.forget();
    }

    /// Lets go of what it said too long ago.
    pub(super) fn sweep(&self) {
        self.cache.sweep(Instant::now());
    }

    /// What it says of a key or token. Dropped, it gives its place back.
    pub(super) async fn look_up(&self, question: Question<'_>) -> Result<Option<Registration>, DirectoryError> {
        let (began, generation, key) = (Instant::now(), self.cache.generation(), Key::from(&question));
        if let Some(found) = self.cache.find(&key, began) {
            self.figures.remembered.inc();
            return Ok(Some(found));
        }
        let subject = Subject::from(question.digest);
        if !self.circuit.admits(subject, began) {
            self.figures.not_sent(Outcome::NotAsked);
            return Err(unavailable("it is not asked, since it does not answer"));
        }
        let Ok(Ok(_place)) = timeout(QUEUE, self.places.acquire()).await else {
            self.figures.not_sent(Outcome::Full);
            return Err(DirectoryError::Busy);
        };
        let found = self.ask(&question, subject).await?;
        if let Some(registration) = &found {
            self.cache.keep(&key, generation, began, registration.clone());
        }
        Ok(found)
    }

    async fn ask(&self, question: &Question<'_>, subject: Subject) -> Result<Option<Registration>, DirectoryError> {
        let sent = self.figures.sent();
        let asked = Instant::now();
        let until = self.until(question.asker, asked);
        let half = asked.checked_add(self.limits.timeout.checked_div(2).unwrap_or_default()).unwrap_or(until);
        let mut asking = pin!(timeout_at(until, self.send(question)));
        let mut checking = pin!(timeout_at(until, self.is_alive(question, asked)));
        let mut is_alive = None;
        let said = match timeout_at(half, asking.as_mut()).await {
            Ok(said) => said,
            // Late: once its time is up, there is none left to tell whose fault it is.
            Err(_) => loop {
                select! {
                    biased;
                    said = asking.as_mut() => break said,
                    checked = checking.as_mut(), if is_alive.is_none() => is_alive = Some(checked),
                }
            },
        };
        let now = Instant::now();
        let (cause, counts) = match said {
            Ok(Ok(said)) => {
                self.hears(now);
                return self.take(said, sent, now);
            }
            Ok(Err(Silence::Unreachable(cause))) => {
                sent.came_to(Outcome::Unavailable);
                return Err(self.is_ill(self.circuit.unreachable(subject, now), &cause));
            }
            Ok(Err(Silence::Broken(cause))) => {
                sent.came_to(Outcome::Unavailable);
                (cause, true)
            }
            Err(_) => {
                sent.came_to(Outcome::Timeout);
                // One that its scan had no more time for says nothing.
                let had_its_time = now.saturating_duration_since(asked) >= self.limits.timeout;
                ("no answer in time".to_owned(), had_its_time)
            }
        };
        let is_alive = match is_alive {
            Some(checked) => checked,
            None => checking.await,
        };
        if is_alive.unwrap_or(false) {
            return Err(DirectoryError::Silent(format!("identity backend: {cause}")));
        }
        Err(self.is_ill(counts && self.circuit.unanswered(subject, now), &cause))
    }

    async fn send(&self, question: &Question<'_>) -> Result<Said, Silence> {
        client::ask(&self.client, &self.url, question.kind, wire::write(question)).await
    }

    /// Whether anything was answered since that question was asked; if nothing was, whether a key is that the connector makes up. One such
    /// question at a time, whose outcome serves all that were asked before it.
    async fn is_alive(&self, question: &Question<'_>, asked: Instant) -> bool {
        if self.circuit.is_answered_since(asked) {
            return true;
        }
        let mut no_sign = self.no_sign_of_life.lock().await;
        if self.circuit.is_answered_since(asked) {
            return true;
        }
        if no_sign.is_some_and(|at| at >= asked) {
            return false;
        }
        let now = Instant::now();
        if self.ask_made_up(AFTER_A_SCAN, question).await.is_ok() {
            return true;
        }
        *no_sign = Some(now);
        false
    }

    /// Asks about a key that the connector makes up, and no shopper can choose. Any answer shows that the backend is there.
    async fn ask_made_up(&self, beginning: &str, question: &Question<'_>) -> Result<(), Silence> {
        let mut random = [0; 9];
        getrandom::fill(&mut random).map_err(|error| Silence::Broken(error.to_string()))?;
        let key = format!("{beginning}{}", hex::encode(random));
        let _sent = self.figures.made_up();
        self.send(&Question { value: &key, ..*question }).await?;
        self.hears(Instant::now());
        Ok(())
    }

    /// Something was answered.
    fn hears(&self, now: Instant) {
        if self.circuit.answered(now) {
            tracing::info!("the identity backend answers again");
        }
    }

    fn take(&self, said: Said, sent: Sent<'_>, now: Instant) -> Result<Option<Registration>, DirectoryError> {
        match said {
            Said::Known(registration) => {
                sent.came_to(Outcome::Found);
                self.standing.is_good(now);
                Ok(Some(registration))
            }
            Said::Unknown => {
                sent.came_to(Outcome::NotFound);
                self.standing.is_good(now);
                Ok(None)
            }
            Said::Refused(status) => {
                sent.came_to(Outcome::Refused);
                self.standing.refused(status, now);
                Ok(None)
            }
            Said::Malformed(error) => {
                sent.came_to(Outcome::Malformed);
                self.standing.malformed(&error, now);
                Ok(None)
            }
            Said::TooMuch => {
                sent.came_to(Outcome::Busy);
                Err(DirectoryError::Busy)
            }
        }
    }

    /// How long an answer is waited for.
    fn until(&self, asker: &Asker, now: Instant) -> Instant {
        let own = now.checked_add(self.limits.timeout).unwrap_or(now);
        own.min(asker.deadline.checked_sub(SPARE).unwrap_or(now))
    }

    fn is_ill(&self, is_news: bool, cause: &str) -> DirectoryError {
        if is_news {
            let url = self.url.as_str();
            tracing::warn!(url, error = cause, "the identity backend does not answer: scans get a 500 until it does");
        }
        unavailable(cause)
    }
}

fn unavailable(cause: &str) -> DirectoryError {
    DirectoryError::Unavailable(format!("identity backend: {cause}"))
}
