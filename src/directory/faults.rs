//! A directory that fails on command: the demo shows a store's default gate decision with it, and the tests prove that a
//! failing directory, a stalled one, a slow one and a panic are all survived.

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

/// The hand on the switch: clones share it.
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

/// That switch, and the keys that fail whatever it says. By default nothing ever fails.
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

    /// What a look-up goes through.
    pub(super) async fn suffer(&self) -> Result<(), DirectoryError> {
        suffer(self.faults.next()).await
    }

    /// What looking up this key goes through.
    pub(super) async fn suffer_key(&self, key: &Digest) -> Result<(), DirectoryError> {
        suffer(self.by_key.get(key).copied().or_else(|| self.faults.next())).await
    }
}

async fn suffer(fault: Option<Fault>) -> Result<(), DirectoryError> {
    match fault {
        None => Ok(()),
        Some(Fault::Fail) => Err(DirectoryError::Unavailable("it was told to fail".to_owned())),
        Some(Fault::Stall) => future::pending().await,
        Some(Fault::Slow(time)) => {
            sleep(time).await;
            Ok(())
        }
        #[expect(clippy::panic, reason = "the fault that was asked for")]
        Some(Fault::Panic) => panic!("the directory was told to panic"),
    }
}
