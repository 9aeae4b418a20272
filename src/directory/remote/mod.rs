//! The retailer's own system, asked over HTTP who a key or token belongs to that is not known here: the identity backend.
//!
//! `docs/identity-backend.md` is the contract. Whatever it does, nobody waits longer than its time, no more questions are under way than
//! it has places, and a key is in memory no longer than its scan. What it says of a key counts as a fact; what it should not say, as that it
//! does not know the key. That it says nothing is an error, and told apart: an illness of its own from what a single key brings about,
//! since a shopper must not be able to provoke a fault.

mod cache;
mod check;
mod circuit;
mod client;
mod figures;
mod settings;
mod standing;
mod wire;

use std::time::Duration;

use reqwest::{Client, Url};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

pub use figures::Figures;
pub use settings::{Credentials, Limits, Settings, SettingsError, parse_url};

use super::{Asker, DirectoryError, Kind, Registration};
use crate::breaker::Subject;
use crate::digest::Digest;
use cache::{Cache, Key};
use circuit::{Circuit, Verdict};
use client::{Said, Silence};
use figures::Outcome;
use standing::Standing;

/// How long a place is waited for: a moment, in which a burst passes.
const QUEUE: Duration = Duration::from_millis(20);
/// How long before a scan's deadline its question ends, so that it is known what came of it.
const SPARE: Duration = Duration::from_millis(100);

/// An identity backend.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    url: Url,
    limits: Limits,
    places: Semaphore,
    circuit: Circuit,
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
        let asking = client::ask(&self.client, &self.url, question.kind, wire::write(question));
        let asked = Instant::now();
        let said = timeout_at(self.until(question.asker, asked), asking).await;
        let now = Instant::now();
        let said = match said {
            Ok(Ok(said)) => said,
            Ok(Err(Silence::Unreachable(cause))) => {
                sent.came_to(Outcome::Unavailable);
                return Err(self.blame(self.circuit.unreachable(subject, now), &cause));
            }
            Ok(Err(Silence::Broken(cause))) => {
                sent.came_to(Outcome::Unavailable);
                return Err(self.blame(self.circuit.unanswered(subject, now), &cause));
            }
            Err(_) => {
                sent.came_to(Outcome::Timeout);
                let had_its_time = now.saturating_duration_since(asked) >= self.limits.timeout;
                let verdict =
                    if had_its_time { self.circuit.unanswered(subject, now) } else { self.circuit.not_waited_for(now) };
                return Err(self.blame(verdict, "no answer in time"));
            }
        };
        if self.circuit.answered(now) {
            tracing::info!("the identity backend answers again");
        }
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

    fn blame(&self, verdict: Verdict, cause: &str) -> DirectoryError {
        match verdict {
            Verdict::TheKey => DirectoryError::Silent(format!("identity backend: {cause}")),
            Verdict::TheBackend { is_news } => {
                if is_news {
                    let url = self.url.as_str();
                    tracing::warn!(
                        url,
                        error = cause,
                        "the identity backend does not answer: scans get a 500 until it does"
                    );
                }
                unavailable(cause)
            }
        }
    }
}

fn unavailable(cause: &str) -> DirectoryError {
    DirectoryError::Unavailable(format!("identity backend: {cause}"))
}
