//! Governor's store of the callers' states: a map of bounded size, and one shared state for all callers beyond the
//! bound.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use governor::nanos::Nanos;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed, StateStore};

use super::Caller;

pub(super) struct CallerStates {
    own: DashMap<Caller, InMemoryState>,
    /// At least the size of `own`; counted here, because `DashMap::len` locks the whole map.
    len: AtomicUsize,
    max: usize,
    shared: InMemoryState,
}

impl CallerStates {
    pub(super) fn new(max: usize) -> Self {
        Self { own: DashMap::new(), len: AtomicUsize::new(0), max, shared: InMemoryState::default() }
    }
}

impl StateStore for CallerStates {
    type Key = Caller;

    fn measure_and_replace<T, F, E>(&self, caller: &Caller, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(state) = self.own.get(caller) {
            return state.measure_and_replace(&NotKeyed::NonKey, f);
        }
        if self.len.fetch_add(1, Ordering::AcqRel) >= self.max {
            self.len.fetch_sub(1, Ordering::AcqRel);
            return self.shared.measure_and_replace(&NotKeyed::NonKey, f);
        }
        let mut inserted = false;
        let state = self.own.entry(caller.clone()).or_insert_with(|| {
            inserted = true;
            InMemoryState::default()
        });
        if !inserted {
            self.len.fetch_sub(1, Ordering::AcqRel);
        }
        state.measure_and_replace(&NotKeyed::NonKey, f)
    }
}

impl ShrinkableKeyedStateStore<Caller> for CallerStates {
    fn retain_recent(&self, drop_below: Nanos) {
        self.own.retain(|_, state| {
            // Returning an error reads the state without changing it.
            let arrival = state.measure_and_replace(&NotKeyed::NonKey, Err::<((), Nanos), Option<Nanos>>);
            let recent = matches!(arrival, Err(Some(arrival)) if arrival > drop_below);
            if !recent {
                self.len.fetch_sub(1, Ordering::AcqRel);
            }
            recent
        });
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for CallerStates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerStates").field("len", &self.len).field("max", &self.max).finish_non_exhaustive()
    }
}
