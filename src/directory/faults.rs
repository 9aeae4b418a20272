//! Faults that are injected into look-ups: errors, stalls, delays and panics.
//!
//! The demo's page uses them to show a store's default gate decision; tests use them to show that the connector
//! survives. Only look-ups for scans and shopper apps have faults; administration keeps working. `serve` has no fault
//! switch.

use std::collections::HashMap;
use std::future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::time::sleep;

use super::DirectoryError;
use crate::digest::Digest;

/// A kind of fault, as a directory file names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The look-up fails immediately.
    Fail,
    /// The look-up never answers.
    Stall,
    /// The look-up panics.
    Panic,
    /// The look-up is delayed by this time.
    #[serde(rename = "slow_ms", deserialize_with = "milliseconds")]
    Slow(Duration),
}

fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u32::deserialize(deserializer).map(|time| Duration::from_millis(time.into()))
}

/// The switch for faults. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Switch>>);

#[derive(Debug, Default)]
struct Switch {
    always: Option<Fault>,
    failures_left: usize,
    injected: usize,
}

impl Faults {
    /// Injects this fault into every look-up from now on; `None` ends it.
    pub fn set(&self, fault: Option<Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).always = fault;
    }

    /// The fault that is injected into every look-up now.
    pub fn current(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).always
    }

    /// Fails the next `count` look-ups.
    pub fn fail_next(&self, count: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failures_left = count;
    }

    /// The number of look-ups that a fault was injected into. A test waits for it before it ends a fault.
    pub fn injected(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).injected
    }

    fn next(&self) -> Option<Fault> {
        let mut switch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = match switch.failures_left.checked_sub(1) {
            Some(left) => {
                switch.failures_left = left;
                Some(Fault::Fail)
            }
            None => switch.always,
        };
        switch.injected = switch.injected.saturating_add(usize::from(fault.is_some()));
        fault
    }
}

/// The switch, and the keys that always have a fault.
#[derive(Clone, Debug, Default)]
pub struct FaultsByKey {
    faults: Faults,
    by_key: Arc<HashMap<Digest, Fault>>,
}

impl FaultsByKey {
    /// `faults` is the switch for all look-ups; `by_key` has the keys that always have a fault.
    pub fn new(faults: Faults, by_key: HashMap<Digest, Fault>) -> Self {
        Self { faults, by_key: Arc::new(by_key) }
    }

    /// Injects the fault that is set for look-ups, if any.
    pub(super) async fn inject(&self) -> Result<(), DirectoryError> {
        inject(self.faults.next()).await
    }

    /// Injects the fault that is set for this key or for all look-ups, if any.
    pub(super) async fn inject_for_key(&self, key: &Digest) -> Result<(), DirectoryError> {
        inject(self.by_key.get(key).copied().or_else(|| self.faults.next())).await
    }
}

async fn inject(fault: Option<Fault>) -> Result<(), DirectoryError> {
    match fault {
        None => Ok(()),
        Some(Fault::Fail) => Err(DirectoryError::Unavailable("injected fault".to_owned())),
        Some(Fault::Stall) => future::pending().await,
        Some(Fault::Slow(time)) => {
            sleep(time).await;
            Ok(())
        }
        #[expect(clippy::panic, reason = "the injected fault")]
        Some(Fault::Panic) => panic!("injected panic in the directory"),
    }
}
