//! Log lines that outsiders can bring about without end: some of each second are written, and the others are counted.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

/// How many lines of one kind are written within [`SECOND`].
const WRITTEN: u32 = 10;
const SECOND: Duration = Duration::from_secs(1);

/// The lines of each kind; there must be few kinds. Clones share them.
#[derive(Debug)]
pub struct Samples<K> {
    seconds: Arc<Mutex<HashMap<K, Second>>>,
    tell: fn(&K, u64),
}

/// What became of the lines of one kind lately.
#[derive(Clone, Copy, Debug)]
struct Second {
    began: Instant,
    written: u32,
    left_out: u64,
}

impl<K: Clone + Eq + Hash + Send + 'static> Samples<K> {
    /// `tell` writes one line about so many of a kind that were left out.
    #[must_use]
    pub fn new(tell: fn(&K, u64)) -> Self {
        Self { seconds: Arc::default(), tell }
    }

    /// Whether the next line of that kind is to be written. If not, it is counted, and told with the others of its second.
    #[must_use]
    pub fn admits(&self, kind: &K) -> bool {
        let now = Instant::now();
        let mut seconds = self.seconds();
        let second = seconds.entry(kind.clone()).or_insert_with(|| Second::new(now));
        let mut before = 0;
        if now.saturating_duration_since(second.began) >= SECOND {
            before = second.left_out;
            *second = Second::new(now);
        }
        let admitted = second.written < WRITTEN;
        if admitted {
            second.written = second.written.saturating_add(1);
        } else {
            second.left_out = second.left_out.saturating_add(1);
            // After the last of them, nothing else would tell their number.
            if second.left_out == 1
                && let Ok(runtime) = Handle::try_current()
            {
                let (samples, kind, began) = (self.clone(), kind.clone(), second.began);
                runtime.spawn(async move {
                    sleep_until(began.checked_add(SECOND).unwrap_or(began)).await;
                    samples.end(&kind, began);
                });
            }
        }
        drop(seconds);
        if before > 0 {
            (self.tell)(kind, before);
        }
        admitted
    }

    /// Tells of the second that began then, unless that is done.
    fn end(&self, kind: &K, began: Instant) {
        let mut seconds = self.seconds();
        let ended = seconds.get(kind).copied().filter(|second| second.began == began);
        if let Some(Second { left_out, .. }) = ended {
            seconds.remove(kind);
            drop(seconds);
            (self.tell)(kind, left_out);
        }
    }

    fn seconds(&self) -> MutexGuard<'_, HashMap<K, Second>> {
        self.seconds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Samples<K> {
    fn clone(&self) -> Self {
        Self { seconds: Arc::clone(&self.seconds), tell: self.tell }
    }
}

impl Second {
    fn new(began: Instant) -> Self {
        Self { began, written: 0, left_out: 0 }
    }
}
