//! A directory that fails on command: the demo shows a store's default gate decision with it, and the tests prove that a
//! failing directory, a stalled one and a panic are all survived.

use std::collections::HashMap;
use std::future;
use std::sync::{Arc, Mutex, PoisonError};

use super::{DirectoryError, MemoryDirectory, Registration};
use crate::digest::Digest;
use crate::domain::ids::StoreId;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::Store;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The look-up fails at once.
    Fail,
    /// The look-up never answers.
    Stall,
    /// The look-up panics.
    Panic,
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

/// A directory in memory behind that switch. Some of its keys may be set to fail whenever they are presented.
#[derive(Clone, Debug)]
pub struct FaultyDirectory {
    inner: Arc<MemoryDirectory>,
    faults: Faults,
    by_key: Arc<HashMap<Digest, Fault>>,
}

impl FaultyDirectory {
    /// Puts `inner` behind the switch; the keys in `by_key` fail whatever the switch says.
    #[must_use]
    pub fn new(inner: Arc<MemoryDirectory>, faults: Faults, by_key: HashMap<Digest, Fault>) -> Self {
        Self { inner, faults, by_key: Arc::new(by_key) }
    }

    pub(super) fn inner(&self) -> &MemoryDirectory {
        &self.inner
    }

    pub(super) async fn store(&self, id: &StoreId) -> Result<Option<Arc<Store>>, DirectoryError> {
        suffer(self.faults.next()).await?;
        Ok(self.inner.store(id))
    }

    pub(super) async fn identity_key(&self, key: &str) -> Result<Option<Registration>, DirectoryError> {
        let by_key = self.by_key.get(&self.inner.hash_key.identity_key(key)).copied();
        suffer(by_key.or_else(|| self.faults.next())).await?;
        Ok(self.inner.identity_key(key))
    }

    pub(super) async fn recognition_token(
        &self,
        token: &RecognitionToken,
    ) -> Result<Option<Registration>, DirectoryError> {
        suffer(self.faults.next()).await?;
        Ok(self.inner.recognition_token(token))
    }
}

async fn suffer(fault: Option<Fault>) -> Result<(), DirectoryError> {
    match fault {
        None => Ok(()),
        Some(Fault::Fail) => Err(DirectoryError("it was told to fail".to_owned())),
        Some(Fault::Stall) => future::pending().await,
        #[expect(clippy::panic, reason = "the fault that was asked for")]
        Some(Fault::Panic) => panic!("the directory was told to panic"),
    }
}
