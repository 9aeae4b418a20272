//! The limit of scans in progress (`server.max_in_flight`), and what happens to scans beyond it.
//!
//! A scan takes a permit when its whole request has arrived, so that slow senders hold none. The permit is released
//! when all work for the scan is done, so a client that disconnects does not release it early. While no permit is free,
//! the bodies of up to [`MAX_EXTRA_BODIES`] requests are still read: recorded events are answered from their record,
//! and up to [`MAX_WAITING`] other scans wait for a permit for at most [`MAX_WAIT`]. This short queue keeps all permits
//! in use although requests arrive at random instants. Every other request is refused with 429.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::clock::later;
use crate::gate_api::answer::GateError;
use crate::http::error::OVERLOADED;
use crate::observe::metrics::Metrics;

/// The maximum number of bodies that are read at a time while no permit is free.
pub(super) const MAX_EXTRA_BODIES: usize = 64;
/// The maximum number of scans that wait for a permit. Fewer than [`MAX_EXTRA_BODIES`], so that recorded events are
/// still read.
pub(super) const MAX_WAITING: usize = 48;
/// The maximum time that a scan waits for a permit.
pub(super) const MAX_WAIT: Duration = Duration::from_millis(50);
/// The log counts refused scans at most once in this time. Their own lines are `debug`, so that a flood does not fill
/// the disk.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// The `Retry-After` of a refused scan, in seconds. If the overload lasts longer, the back-off of the gate grows.
const RETRY_AFTER: u64 = 1;

/// The limit of scans in progress.
#[derive(Debug)]
pub struct InFlight {
    permits: Arc<Semaphore>,
    extra_bodies: Semaphore,
    waiting: Semaphore,
    refusals: Mutex<Refusals>,
    pub(super) metrics: Metrics,
}

/// The refused scans that the log has not counted yet.
#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    logged_at: Option<Instant>,
}

/// Permission to work on a scan. Dropping the value releases the permit.
#[derive(Debug)]
pub(crate) struct ScanPermit {
    _permit: OwnedSemaphorePermit,
    metrics: Metrics,
}

impl InFlight {
    /// Allows `limit` scans at a time.
    pub fn new(limit: u32, metrics: Metrics) -> Self {
        metrics.places.set(limit.into());
        Self {
            permits: Arc::new(Semaphore::new(limit as usize)),
            extra_bodies: Semaphore::new(MAX_EXTRA_BODIES),
            waiting: Semaphore::new(MAX_WAITING),
            refusals: Mutex::default(),
            metrics,
        }
    }

    /// Decides by a request's head whether its body may be read. While no scan permit is free, that takes a permit,
    /// which is held until the scan has its own.
    pub(crate) fn may_read(&self) -> Result<Option<SemaphorePermit<'_>>, GateError> {
        if self.permits.available_permits() > 0 {
            return Ok(None);
        }
        self.extra_bodies.try_acquire().map(Some).map_err(|_| self.refuse())
    }

    /// Takes a permit if one is free.
    pub(crate) fn try_acquire(&self) -> Option<ScanPermit> {
        Arc::clone(&self.permits).try_acquire_owned().ok().map(|permit| self.acquired(permit))
    }

    /// Waits for a permit, for at most [`MAX_WAIT`] and not after `deadline`. The body has been read by now, so a
    /// request that was read while permits were free may wait as well.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<ScanPermit, GateError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| self.refuse())?;
        let until = later(Instant::now(), MAX_WAIT).min(deadline);
        match timeout_at(until, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(self.acquired(permit)),
            _ => Err(self.refuse()),
        }
    }

    fn acquired(&self, permit: OwnedSemaphorePermit) -> ScanPermit {
        self.metrics.places_taken.inc();
        ScanPermit { _permit: permit, metrics: self.metrics.clone() }
    }

    fn refuse(&self) -> GateError {
        self.metrics.overloaded.inc();
        if let Some(refused) = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now()) {
            tracing::warn!(refused, "refusing scans with 429: server.max_in_flight reached; add a replica or raise it");
        }
        GateError::TooManyRequests { retry_after: RETRY_AFTER, reason: OVERLOADED }
    }
}

impl Refusals {
    /// Counts a refused scan. Returns the count to log, if the last log line is older than [`LOG_INTERVAL`].
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count = self.count.saturating_add(1);
        if self.logged_at.is_some_and(|logged_at| now.saturating_duration_since(logged_at) < LOG_INTERVAL) {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Drop for ScanPermit {
    fn drop(&mut self) {
        self.metrics.places_taken.dec();
    }
}
