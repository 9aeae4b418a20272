//! How often tokens may make a provider's keys be fetched before it is time. Anybody can make up a token that no known key verifies. So
//! customers whose tokens were valid before have a budget that tokens of strangers cannot spend: a key that the provider has changed is
//! noticed with the first of these customers, whatever strangers send. Both budgets together bound what the provider is asked.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::ids::SubjectId;

/// The least time between two fetches for customers whose tokens were valid before.
const CUSTOMERS: TimeDelta = TimeDelta::seconds(10);
/// The least time between two fetches for everybody else.
const STRANGERS: TimeDelta = TimeDelta::seconds(60);
/// How many customers are remembered. When there are more, all are forgotten, and each is remembered again with the next valid token.
const MOST: usize = 100_000;

/// The fetches that tokens may cause.
#[derive(Debug, Default)]
pub(super) struct FetchBudget {
    /// Keyed at random, so that no one can choose a customer whose hash is that of another.
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Hashes of customers whose tokens were valid.
    customers: HashSet<u64>,
    /// The last fetch for one of these.
    for_customers: Option<DateTime<Utc>>,
    /// The last fetch for anybody else.
    for_strangers: Option<DateTime<Utc>>,
}

impl FetchBudget {
    /// Remembers a customer whose token is valid.
    pub(super) fn remember(&self, customer: &SubjectId) {
        let hash = self.hasher.hash_one(customer);
        let mut state = self.state();
        if state.customers.len() >= MOST && !state.customers.contains(&hash) {
            state.customers.clear();
        }
        state.customers.insert(hash);
    }

    /// Whether a token that names this customer may cause a fetch now. If so, the fetch is counted.
    pub(super) fn spend(&self, customer: &SubjectId, now: DateTime<Utc>) -> bool {
        let hash = self.hasher.hash_one(customer);
        let mut state = self.state();
        let is_known = state.customers.contains(&hash);
        let (last, pause) =
            if is_known { (&mut state.for_customers, CUSTOMERS) } else { (&mut state.for_strangers, STRANGERS) };
        // A clock that was set back does not keep fetches away.
        let may_fetch = last.is_none_or(|last| now.signed_duration_since(last).abs() >= pause);
        if may_fetch {
            *last = Some(now);
        }
        may_fetch
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_are_forgotten_when_there_are_too_many_of_them() {
        let budget = FetchBudget::default();
        let customer = |number: usize| SubjectId::parse(&number.to_string()).expect("a subject");
        for number in 0..=MOST {
            budget.remember(&customer(number));
        }
        let now = DateTime::UNIX_EPOCH;
        assert!(budget.spend(&customer(0), now), "as for a stranger");
        assert!(!budget.spend(&customer(1), now), "likewise");
        assert!(budget.spend(&customer(MOST), now), "the last one is remembered");
        assert_eq!(budget.state().customers.len(), 1);
    }
}
