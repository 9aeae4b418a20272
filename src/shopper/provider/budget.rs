//! Limits how often tokens may cause a fetch of a provider's keys before the next refresh. Any client can make up a
//! token that no known key verifies. So customers whose tokens were valid before have a separate budget, which made-up
//! tokens cannot use up: after a key change, the first of these customers causes a fetch, whatever other clients send.
//! The two budgets together limit the requests to the provider.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use crate::cache::{Cache, keeping_used};
use crate::domain::ids::SubjectId;

/// The minimum time between two fetches for customers whose tokens were valid before.
const CUSTOMER_INTERVAL: TimeDelta = TimeDelta::seconds(10);
/// The minimum time between two fetches for all other tokens.
const OTHER_INTERVAL: TimeDelta = TimeDelta::seconds(60);
/// The maximum number of remembered customers. When it is reached, each new customer replaces one whose tokens were not
/// used recently.
const MAX_REMEMBERED: usize = 100_000;

/// The budget of fetches that tokens may cause.
#[derive(Debug)]
pub(crate) struct FetchBudget {
    /// Keyed at random, so that no client can choose a customer id whose hash collides with another's.
    hasher: RandomState,
    /// Hashes of customers whose tokens were valid.
    customers: Cache<u64, ()>,
    last: Mutex<LastFetches>,
}

#[derive(Debug, Default)]
struct LastFetches {
    /// The last fetch for one of these customers.
    for_customers: Option<DateTime<Utc>>,
    /// The last fetch for any other token.
    for_others: Option<DateTime<Utc>>,
}

impl Default for FetchBudget {
    fn default() -> Self {
        Self { hasher: RandomState::new(), customers: keeping_used(MAX_REMEMBERED), last: Mutex::default() }
    }
}

impl FetchBudget {
    /// Remembers a customer whose token was valid.
    pub(crate) fn remember(&self, customer: &SubjectId) {
        let hash = self.hasher.hash_one(customer);
        if self.customers.get(&hash).is_none() {
            self.customers.insert(hash, ());
        }
    }

    /// Whether a token that names this customer may cause a fetch now. If so, the fetch uses up the budget.
    pub(crate) fn spend(&self, customer: &SubjectId, now: DateTime<Utc>) -> bool {
        let is_known = self.customers.contains_key(&self.hasher.hash_one(customer));
        let mut fetches = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, interval) = if is_known {
            (&mut fetches.for_customers, CUSTOMER_INTERVAL)
        } else {
            (&mut fetches.for_others, OTHER_INTERVAL)
        };
        // A clock that was set back does not prevent fetches.
        let may_fetch = last.is_none_or(|last| now.signed_duration_since(last).abs() >= interval);
        if may_fetch {
            *last = Some(now);
        }
        may_fetch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn customers_with_recent_tokens_are_remembered_beyond_the_limit() {
        let budget = FetchBudget::default();
        let customer = |number: usize| SubjectId::parse(&number.to_string()).expect("a subject");
        let now = DateTime::UNIX_EPOCH;
        for number in 0..=2 * MAX_REMEMBERED {
            budget.remember(&customer(number));
            budget.remember(&customer(1));
        }
        assert!(budget.spend(&customer(1), now), "with many tokens");
        assert!(!budget.spend(&customer(2 * MAX_REMEMBERED), now), "the last one is a customer too");
        assert!(budget.spend(&SubjectId::parse("made-up").expect("a subject"), now));
        assert!(budget.customers.len() <= MAX_REMEMBERED);
    }
}
