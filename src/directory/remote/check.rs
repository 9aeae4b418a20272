//! Checks whether the identity backend answers while no scan shows it: a question about a key that the connector makes up.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::client::Silence;
use super::{Question, Remote};
use crate::digest::Digest;
use crate::directory::{Asker, Directory, Kind};
use crate::domain::ids::StoreId;

/// How often, while nothing else is answered.
const EVERY: Duration = Duration::from_secs(5);
/// How soon after a check that failed the next one follows.
const AGAIN: Duration = Duration::from_millis(500);
/// How the keys of checks begin, so that the retailer can tell them from others.
const KEY: &str = "connectorcheck";

impl Remote {
    /// Checks for ever, as if at a store of the directory; while there is none, there is no scan to check for.
    ///
    /// Three checks without an answer, with no other answer in between, show that it is down: no shopper chooses these keys.
    pub(crate) async fn keep_checking(&self, directory: &Directory) {
        let mut failed = 0_u64;
        loop {
            sleep(if failed == 0 { EVERY } else { AGAIN }).await;
            let since = Instant::now().checked_sub(EVERY);
            if !self.is_given_up() && since.is_some_and(|since| self.circuit.is_answered_since(since)) {
                failed = 0;
                continue;
            }
            // Without a free place, scans are asking.
            let Ok(_place) = self.places.try_acquire() else { continue };
            let Some(store) = directory.stores(None, 1).await.unwrap_or_default().pop() else { continue };
            match self.check(store.id).await {
                Ok(()) => failed = 0,
                Err(cause) => {
                    failed = failed.saturating_add(1);
                    let mut key = [0; 32];
                    key[..8].copy_from_slice(&failed.to_be_bytes());
                    let is_news = self.circuit.unreachable(Digest::from_bytes(key).into(), Instant::now());
                    let error = self.is_ill(is_news, &cause); // which logs it, if that is news
                    tracing::debug!(%error, "the check of the identity backend failed");
                }
            }
        }
    }

    async fn check(&self, store: StoreId) -> Result<(), String> {
        let (digest, deadline) = (Digest::from_bytes([0; 32]), Instant::now());
        let asker = Asker { subject: digest.into(), store, channel: None, deadline };
        let question = Question { kind: Kind::IdentityKey, value: "", digest, asker: &asker };
        match timeout(self.limits.timeout, self.ask_made_up(KEY, &question)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Silence::Unreachable(cause) | Silence::Broken(cause))) => Err(cause),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
