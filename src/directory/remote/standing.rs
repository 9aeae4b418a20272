//! Whether what is answered is of any use, told in the log when that changes: a key that is refused is one shopper's matter, every key an
//! operator's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How far lines are apart at least: who is refused and who is not may take turns.
const APART: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    trouble: Option<Trouble>,
    at: Option<Instant>,
}

/// What is wrong with answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It takes no questions of ours.
    Refused,
    /// It does not keep to the contract.
    Malformed,
}

impl Standing {
    /// An answer as documented.
    pub(super) fn is_good(&self, now: Instant) {
        if self.changes(None, now) {
            tracing::info!("the identity backend answers as documented again");
        }
    }

    /// It has refused a question with that status.
    pub(super) fn refused(&self, status: u16, now: Instant) {
        if self.changes(Some(Trouble::Refused), now) {
            let what = "the identity backend refuses a question: such keys count as not found; if it refuses all, look at directory.token or \
                        the client certificate";
            tracing::warn!(status, "{what}");
        }
    }

    /// Nobody can read what it says, for this reason.
    pub(super) fn malformed(&self, error: &str, now: Instant) {
        if self.changes(Some(Trouble::Malformed), now) {
            tracing::warn!(
                error,
                "the identity backend answers otherwise than documented: such keys count as not found"
            );
        }
    }

    /// Whether that is to be told.
    fn changes(&self, trouble: Option<Trouble>, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_soon = told.at.is_some_and(|at| now.saturating_duration_since(at) < APART);
        if told.trouble == trouble || is_soon {
            return false;
        }
        *told = Told { trouble, at: Some(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once_and_not_too_often() {
        let standing = Standing::default();
        assert!(!standing.changes(None, Instant::now()), "it was fine before");
        assert!(standing.changes(Some(Trouble::Refused), Instant::now()));
        assert!(!standing.changes(Some(Trouble::Refused), Instant::now()));
        assert!(!standing.changes(None, Instant::now()), "too soon");
        tokio::time::advance(APART).await;
        assert!(!standing.changes(Some(Trouble::Refused), Instant::now()), "it was told");
        assert!(standing.changes(None, Instant::now()));
    }
}
