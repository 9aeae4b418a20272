//! A directory that fails on command: the demo's page shows a store's default gate decision with it, and the tests prove
//! that a failing directory, a stalled one, a slow one and a panic are all survived.
//!
//! Only the look-ups of scans have faults. Administration works meanwhile. A directory of `serve` has none of this.

use std::collections::HashMap;
use std::future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::DirectoryError;
use crate::digest::Digest;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The look-up fails at once.
    Fail,
    /// The look-up never answers.
    Stall,
    /// The look-up panics.
    Panic,
    /// The look-up takes so long.
    Slow(Duration),
}

/// The switch for faults. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Switch>>);

#[derive(Debug, Default)]
struct Switch {
    always: Option<Fault>,
    failures_left: usize,
}

impl Faults {
    /// From now on every look-up has this fault, or none.
    pub fn set(&self, fault: Option<Fault>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).always = fault;
    }

    /// The fault that every look-up has now.
    #[must_use]
    pub fn current(&self) -> Option<Fault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).always
    }

    /// The next `count` look-ups fail, then the directory works again.
    pub fn fail_next(&self, count: usize) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failures_left = count;
    }

    fn next(&self) -> Option<Fault> {
        let mut switch = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(left) = switch.failures_left.checked_sub(1) {
            switch.failures_left = left;
            return Some(Fault::Fail);
        }
        switch.always
    }
}

/// The switch, and the keys that fail whatever the switch says.
#[derive(Clone, Debug, Default)]
pub struct FaultsByKey {
    faults: Faults,
    by_key: Arc<HashMap<Digest, Fault>>,
}

impl FaultsByKey {
    /// Look-ups fail when `faults` says so; the keys in `by_key` always do.
    #[must_use]
    pub fn new(faults: Faults, by_key: HashMap<Digest, Fault>) -> Self {
        Self { faults, by_key: Arc::new(by_key) }
    }

    /// Applies the fault that a look-up has now, if any.
    pub(super) async fn apply(&self) -> Result<(), DirectoryError> {
        apply(self.faults.next()).await
    }

    /// Applies the fault that the look-up of this key has now, if any.
    pub(super) async fn apply_to_key(&self, key: &Digest) -> Result<(), DirectoryError> {
        apply(self.by_key.get(key).copied().or_else(|| self.faults.next())).await
    }
}

async fn apply(fault: Option<Fault>) -> Result<(), DirectoryError> {
    match fault {
        None => Ok(()),
        Some(Fault::Fail) => Err(DirectoryError::Unavailable("injected fault".to_owned())),
        Some(Fault::Stall) => future::pending().await,
        Some(Fault::Slow(time)) => {
            sleep(time).await;
            Ok(())
        }
        #[expect(clippy::panic, reason = "the fault that was asked for")]
        Some(Fault::Panic) => panic!("injected panic in the directory"),
    }
}
