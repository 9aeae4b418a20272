//! How many scans are worked on at once, and what becomes of those beyond: most are refused in no time.
//!
//! A place is taken when the whole request is there, so that nobody takes one by sending slowly, and left when all that was begun for it is
//! done, so that nobody makes room for more by hanging up. While every place is taken, the bodies of [`BEYOND`] requests at a time
//! are still read: what is recorded is answered, and of the others, [`WAITING`] may wait for a place for a moment. Without them places
//! would stand empty between one request and the next, as requests come when they like.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::error::ApiError;
use super::later;
use crate::metrics::Metrics;

/// How many bodies are read at a time while every place is taken.
const BEYOND: usize = 64;
/// How many requests may wait for a place: fewer than those, so that waiting never takes all of them from events that are recorded.
const WAITING: usize = 48;
/// How long.
const PATIENCE: Duration = Duration::from_millis(50);
/// Why a request without a place is refused.
pub(super) const OVERLOADED: &str = "overloaded";
/// How often the log says that requests are refused. Each of them is a line for debugging only: a flood is no reason to fill a disk.
const WARNING: Duration = Duration::from_secs(1);
/// After how many seconds a caller is told to ask again. Whom that leaves at the gate too long has longer pauses of its own.
const RETRY_AFTER: u64 = 1;

/// The places: clones share them.
#[derive(Clone, Debug)]
pub struct InFlight {
    places: Arc<Semaphore>,
    beyond: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    refusals: Arc<Mutex<Refusals>>,
    metrics: Metrics,
}

/// Those that the log has not told yet.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    told: Option<Instant>,
}

/// Leave to have one's body read.
#[derive(Debug)]
pub(super) struct Entry {
    _beyond: Option<OwnedSemaphorePermit>,
}

/// A place: left when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    metrics: Metrics,
}

impl InFlight {
    /// So many places.
    #[must_use]
    pub fn new(places: u32, metrics: Metrics) -> Self {
        metrics.set_permits(places);
        Self {
            places: Arc::new(Semaphore::new(places as usize)),
            beyond: Arc::new(Semaphore::new(BEYOND)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            refusals: Arc::default(),
            metrics,
        }
    }

    /// At the head of a request: whether its body is to be read at all.
    pub(super) fn at_the_head(&self) -> Result<Entry, ApiError> {
        if self.places.available_permits() > 0 {
            return Ok(Entry { _beyond: None });
        }
        let beyond = Arc::clone(&self.beyond).try_acquire_owned();
        beyond.map(|permit| Entry { _beyond: Some(permit) }).map_err(|_| self.refuse())
    }

    /// A place, if one is free.
    pub(super) fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| self.taken(permit))
    }

    /// A place that becomes free within a moment, and before `deadline`. The body is whole and stays where it is, so what comes without an
    /// [`Entry`] beyond, since places were free at its head, may wait as well.
    pub(super) async fn wait(&self, deadline: Instant) -> Result<Place, ApiError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| self.refuse())?;
        let until = later(Instant::now(), PATIENCE).min(deadline);
        match timeout_at(until, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.taken(permit)),
            _ => Err(self.refuse()),
        }
    }

    /// Counts one that needs no place.
    pub(super) fn recalled(&self) {
        self.metrics.recalled_overloaded();
    }

    fn taken(&self, permit: OwnedSemaphorePermit) -> Place {
        self.metrics.permit_taken();
        Place { _permit: permit, metrics: self.metrics.clone() }
    }

    fn refuse(&self) -> ApiError {
        self.metrics.overloaded();
        if let Some(refused) = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).another(Instant::now()) {
            tracing::warn!(refused, "scans are refused: every place is taken");
        }
        ApiError::TooManyRequests { retry_after: RETRY_AFTER, reason: OVERLOADED }
    }
}

impl Refusals {
    /// One more; how many the log is to tell now, if it is time.
    fn another(&mut self, now: Instant) -> Option<u64> {
        self.count = self.count.saturating_add(1);
        if self.told.is_some_and(|told| now.saturating_duration_since(told) < WARNING) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.permit_released();
    }
}

#[cfg(test)]
#[path = "in_flight_tests.rs"]
mod tests;
