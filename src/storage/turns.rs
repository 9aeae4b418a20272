//! Whose turn it is to look something up for a scan: no more at a time than there are connections. Whoever waits for a turn in vain while
//! others are answered has found the database busy, which is nobody's fault and passes; if nobody is answered, it is ill. One cannot be told from the
//! other by waiting for a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{ACQUIRE, DatabaseError};

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
        let before = self.answered.load(Ordering::Relaxed);
        match timeout(ACQUIRE, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ if self.answered.load(Ordering::Relaxed) == before => Err(DatabaseError::TimedOut),
            _ => Err(DatabaseError::Busy),
        }
    }

    /// One of them came to an answer.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
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
