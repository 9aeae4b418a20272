//! Whose turn it is to look something up for a scan: no more at a time than there are connections. Whoever waits for a turn in vain while
//! others are answered has found the database busy, which is nobody's fault and passes; if nobody is answered, it is ill. So it is with
//! whoever waits for a connection that is still to be opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::AnyConnection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::breaker::Kind;
use super::{ACQUIRE, Database, DatabaseError, READ, Work};
use crate::breaker::Subject;

/// How many had come to an answer at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(u64);

#[derive(Debug)]
pub(super) struct Turns {
    turns: Arc<Semaphore>,
    /// How many of them came to an answer.
    answered: AtomicU64,
}

impl Turns {
    pub(super) fn new(connections: u32) -> Self {
        Self { turns: Arc::new(Semaphore::new(connections as usize)), answered: AtomicU64::new(0) }
    }

    /// Waits for one. Whoever gives up waiting has asked nothing.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, DatabaseError> {
        let began = self.moment();
        match timeout(ACQUIRE, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ if self.is_answered_since(began) => Err(DatabaseError::Busy),
            _ => Err(DatabaseError::TimedOut),
        }
    }

    /// One of them came to an answer.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Now, as far as these are concerned.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.answered.load(Ordering::Relaxed))
    }

    /// Whether any of them came to an answer since then.
    pub(super) fn is_answered_since(&self, moment: Moment) -> bool {
        self.moment() != moment
    }
}

impl Database {
    /// Reads something that a scan waits for; `subject` tells whose scan.
    pub(crate) async fn read<T, W>(&self, subject: Subject, work: W) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut AnyConnection) -> Work<'c, T> + Send + 'static,
    {
        if self.0.breaker.is_open() {
            return Err(DatabaseError::Down);
        }
        let turn = match self.0.turns.take().await {
            Ok(turn) => turn,
            Err(error) => {
                self.diagnose(Kind::Read, &[subject], Some(&error));
                return Err(error);
            }
        };
        self.run(&self.0.pools.reads, READ, Some((Kind::Read, vec![subject])), |connection| {
            Box::pin(async move {
                let _turn = turn; // also when the caller has gone
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
    async fn who_waits_in_vain_is_told_whether_anybody_was_answered() {
        let turns = Turns::new(1);
        let turn = turns.take().await.expect("a turn");
        assert!(matches!(turns.take().await, Err(DatabaseError::TimedOut)));
        let answer = async { turns.answered() };
        let (waited, ()) = tokio::join!(turns.take(), answer);
        assert!(matches!(waited, Err(DatabaseError::Busy)));
        drop(turn);
        assert!(turns.take().await.is_ok());
    }
}
