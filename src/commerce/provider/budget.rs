//! Limits how often tokens may cause a fetch of a provider's keys before the next refresh. Any client can make up a
//! token that no known key verifies. So customers whose tokens were valid before have a separate budget, which made-up
//! tokens cannot use up: after a key change, the first of these customers causes a fetch, whatever other clients send.
//! The two budgets together limit the requests to the provider.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::ids::SubjectId;

/// The minimum time between two fetches for customers whose tokens were valid before.
const CUSTOMER_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// The minimum time between two fetches for all other tokens.
const OTHER_INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// The maximum number of remembered customers. When it is reached, all are forgotten, and each is remembered again with
/// the next valid token.
const MAX_REMEMBERED: usize = 100_000;

/// The budget of fetches that tokens may cause.
#[derive(Debug, Default)]
pub(super) struct FetchBudget {
    /// Keyed at random, so that no client can choose a customer id whose hash collides with another's.
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Hashes of customers whose tokens were valid.
    customers: HashSet<u64>,
    /// The last fetch for one of these customers.
    for_customers: Option<DateTime<Utc>>,
    /// The last fetch for any other token.
    for_others: Option<DateTime<Utc>>,
}

impl FetchBudget {
    /// Remembers a customer whose token was valid.
    pub(super) fn remember(&self, customer: &SubjectId) {
        let hash = self.hasher.hash_one(customer);
        let mut state = self.state();
        if state.customers.len() >= MAX_REMEMBERED && !state.customers.contains(&hash) {
            state.customers.clear();
        }
        state.customers.insert(hash);
    }

    /// Whether a token that names this customer may cause a fetch now. If so, the fetch uses up the budget.
    pub(super) fn spend(&self, customer: &SubjectId, now: DateTime<Utc>) -> bool {
        let hash = self.hasher.hash_one(customer);
        let mut state = self.state();
        let is_known = state.customers.contains(&hash);
        let (last, interval) = if is_known {
            (&mut state.for_customers, CUSTOMER_INTERVAL)
        } else {
            (&mut state.for_others, OTHER_INTERVAL)
        };
        // A clock that was set back does not prevent fetches.
        let may_fetch = last.is_none_or(|last| now.signed_duration_since(last).abs() >= interval);
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
    fn customers_are_forgotten_at_the_limit() {
        let budget = FetchBudget::default();
        let customer = |number: usize| SubjectId::parse(&number.to_string()).expect("a subject");
        for number in 0..=MAX_REMEMBERED {
            budget.remember(&customer(number));
        }
        let now = DateTime::UNIX_EPOCH;
        assert!(budget.spend(&customer(0), now), "as for an unknown customer");
        assert!(!budget.spend(&customer(1), now), "likewise");
        assert!(budget.spend(&customer(MAX_REMEMBERED), now), "the last one is remembered");
        assert_eq!(budget.state().customers.len(), 1);
    }
}
