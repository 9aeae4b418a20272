//! Limits log lines that any client can cause in any number: of each kind, ten lines a second are written, and the
//! other lines are counted.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

use crate::clock::later;

/// The maximum number of lines of one kind in each [`WINDOW`].
const MAX_LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// The current window of each kind of line. There must be few kinds, because memory grows with them. Clones share it.
#[derive(Debug)]
pub(crate) struct Samples<K> {
    windows: Arc<Mutex<HashMap<K, Window>>>,
    report: fn(&K, u64),
}

/// The lines of one kind in one window.
#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    written: u32,
    omitted: u64,
}

impl<K: Clone + Eq + Hash + Send + 'static> Samples<K> {
    /// `report` writes one line with the number of omitted lines of a kind.
    #[must_use]
    pub(crate) fn new(report: fn(&K, u64)) -> Self {
        Self { windows: Arc::default(), report }
    }

    /// Whether to write the next line of this kind. If not, the line is counted, and reported at the end of its window.
    #[must_use]
    pub(crate) fn admits(&self, kind: &K) -> bool {
        let now = Instant::now();
        let mut windows = self.windows();
        let window = windows.entry(kind.clone()).or_insert_with(|| Window::new(now));
        let mut omitted_before = 0;
        if now.saturating_duration_since(window.began) >= WINDOW {
            omitted_before = window.omitted;
            *window = Window::new(now);
        }
        let admitted = window.written < MAX_LINES;
        if admitted {
            window.written = window.written.saturating_add(1);
        } else {
            window.omitted = window.omitted.saturating_add(1);
            // If no further line of this kind follows, only this task reports the number.
            if window.omitted == 1
                && let Ok(runtime) = Handle::try_current()
            {
                let (samples, kind, began) = (self.clone(), kind.clone(), window.began);
                runtime.spawn(async move {
                    sleep_until(later(began, WINDOW)).await;
                    samples.end(&kind, began);
                });
            }
        }
        drop(windows);
        if omitted_before > 0 {
            (self.report)(kind, omitted_before);
        }
        admitted
    }

    /// Ends the window that began at `began` and reports it, unless a later line has done so.
    fn end(&self, kind: &K, began: Instant) {
        let mut windows = self.windows();
        let ended = windows.get(kind).copied().filter(|window| window.began == began);
        if let Some(Window { omitted, .. }) = ended {
            windows.remove(kind);
            drop(windows);
            (self.report)(kind, omitted);
        }
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<K, Window>> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Samples<K> {
    fn clone(&self) -> Self {
        Self { windows: Arc::clone(&self.windows), report: self.report }
    }
}

impl Window {
    fn new(began: Instant) -> Self {
        Self { began, written: 0, omitted: 0 }
    }
}
