//! Logs when the identity backend begins or stops to refuse look-up requests or to send malformed answers.
//!
//! One refused key concerns one shopper; if the backend refuses every key, the operator must act.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The minimum time between two lines: good and bad answers may alternate.
const MIN_LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct AnswerHealth(Mutex<LastLogged>);

#[derive(Debug, Default)]
struct LastLogged {
    trouble: Option<Trouble>,
    at: Option<Instant>,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The request was refused with a 4xx status.
    Refused,
    /// The answer does not conform to the contract.
    Malformed,
}

impl AnswerHealth {
    /// Records a valid answer.
    pub(super) fn valid(&self, now: Instant) {
        if self.should_log(None, now) {
            tracing::info!("the identity backend sends valid answers again");
        }
    }

    /// Records a request that was refused with this status.
    pub(super) fn refused(&self, status: u16, now: Instant) {
        if self.should_log(Some(Trouble::Refused), now) {
            tracing::warn!(
                status,
                "the identity backend refuses a look-up request: the shopper's key counts as not found; if it refuses every request, check \
                 directory.token and directory.client_certificate"
            );
        }
    }

    /// Records a malformed answer.
    pub(super) fn malformed(&self, error: &str, now: Instant) {
        if self.should_log(Some(Trouble::Malformed), now) {
            tracing::warn!(error, "the identity backend sent a malformed answer: its key counts as not found");
        }
    }

    /// Whether this state is new and the last line is long enough ago.
    fn should_log(&self, trouble: Option<Trouble>, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = last.at.is_some_and(|at| now.saturating_duration_since(at) < MIN_LOG_INTERVAL);
        if last.trouble == trouble || is_soon {
            return false;
        }
        *last = LastLogged { trouble, at: Some(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_logged_once_and_not_too_often() {
        let health = AnswerHealth::default();
        assert!(!health.should_log(None, Instant::now()), "no change");
        assert!(health.should_log(Some(Trouble::Refused), Instant::now()));
        assert!(!health.should_log(Some(Trouble::Refused), Instant::now()));
        assert!(!health.should_log(None, Instant::now()), "too soon");
        tokio::time::advance(MIN_LOG_INTERVAL).await;
        assert!(!health.should_log(Some(Trouble::Refused), Instant::now()), "already logged");
        assert!(health.should_log(None, Instant::now()));
    }
}
