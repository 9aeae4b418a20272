//! Query permits, which limit the concurrent queries of scans to the number of connections in the pool.
//!
//! Without a permit in time, the query fails in one of two ways. If other queries were answered meanwhile, the
//! database is busy (`DatabaseError::Busy`), which is no sign that it is unhealthy. If none was answered, the query
//! has timed out (`DatabaseError::TimedOut`), which counts as a failure of the database. The same applies to queries
//! that wait for a connection to be opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::AnyConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::breaker::Kind;
use super::{ACQUIRE_TIMEOUT, Database, DatabaseError, READ_TIMEOUT, Work};
use crate::breaker::Subject;

/// The number of answered queries at some point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerCount(u64);

#[derive(Debug)]
pub(super) struct QueryPermits {
    semaphore: Arc<Semaphore>,
    /// The number of answered queries since the start.
    answered: AtomicU64,
}

impl QueryPermits {
    pub(super) fn new(connections: u32) -> Self {
        Self { semaphore: Arc::new(Semaphore::new(connections as usize)), answered: AtomicU64::new(0) }
    }

    /// Waits for a permit. A caller that stops waiting has sent no query.
    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit, DatabaseError> {
        let before = self.answer_count();
        match timeout(ACQUIRE_TIMEOUT, Arc::clone(&self.semaphore).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ if self.has_answered_since(before) => Err(DatabaseError::Busy),
            _ => Err(DatabaseError::TimedOut),
        }
    }

    /// Counts an answered query.
    pub(super) fn count_answer(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of answered queries until now.
    pub(super) fn answer_count(&self) -> AnswerCount {
        AnswerCount(self.answered.load(Ordering::Relaxed))
    }

    /// Whether any query was answered since `before` was taken.
    pub(super) fn has_answered_since(&self, before: AnswerCount) -> bool {
        self.answer_count() != before
    }
}

impl Database {
    /// Reads data that a scan waits for. `subject` identifies the scan.
    pub(crate) async fn read<T, W>(&self, subject: Subject, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let permit = match self.0.query_permits.acquire().await {
            Ok(permit) => permit,
            Err(error) => {
                self.diagnose(Kind::Read, &[subject], Some(&error));
                return Err(error);
            }
        };
        self.run(&self.0.pools.reads, READ_TIMEOUT, Some((Kind::Read, vec![subject])), |connection| {
            Box::pin(async move {
                let _permit = permit; // held until the query ends, even if the caller has disconnected
                work(connection).await
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn missing_permit_is_busy_if_others_were_answered_and_a_timeout_otherwise() {
        let permits = QueryPermits::new(1);
        let permit = permits.acquire().await.expect("a permit");
        assert!(matches!(permits.acquire().await, Err(DatabaseError::TimedOut)));
        let answer = async { permits.count_answer() };
        let (waited, ()) = tokio::join!(permits.acquire(), answer);
        assert!(matches!(waited, Err(DatabaseError::Busy)));
        drop(permit);
        assert!(permits.acquire().await.is_ok());
    }
}
