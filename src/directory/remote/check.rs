//! Periodic checks of the identity backend while no scan uses it. A check looks up a key that the connector makes up.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::client::NoAnswer;
use super::{LookupRequest, Remote};
use crate::digest::Digest;
use crate::directory::{Directory, Kind, ScanContext};
use crate::domain::ids::StoreId;

/// The interval of checks while no request is answered.
const INTERVAL: Duration = Duration::from_secs(5);
/// The time from a failed check to the next one.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The prefix of the keys of checks, so that the retailer can recognize them.
const CHECK_PREFIX: &str = "connectorcheck";

impl Remote {
    /// Runs checks periodically. Never returns. The checks name the first store of the directory; without a store there
    /// are no checks, as there can be no scan.
    ///
    /// Three checks without an answer, with no other answer in between, show that the backend is down: no shopper can
    /// choose these keys.
    pub(crate) async fn run_checks(&self, directory: &Directory) {
        let mut failed = 0_u64;
        loop {
            sleep(if failed == 0 { INTERVAL } else { RETRY_AFTER }).await;
            let since = Instant::now().checked_sub(INTERVAL);
            if !self.is_circuit_open() && since.is_some_and(|since| self.circuit.is_answered_since(since)) {
                failed = 0;
                continue;
            }
            // Without a free permit, scans are using the backend, so a check is not needed.
            let Ok(_permit) = self.permits.try_acquire() else { continue };
            let Some(store) = directory.stores(None, 1).await.unwrap_or_default().pop() else { continue };
            match self.check(store.id).await {
                Ok(()) => failed = 0,
                Err(cause) => {
                    failed = failed.saturating_add(1);
                    let mut key = [0; 32];
                    key[..8].copy_from_slice(&failed.to_be_bytes());
                    let has_opened = self.circuit.unreachable(Digest::from_bytes(key).into(), Instant::now());
                    let error = self.fail(has_opened, &cause);
                    tracing::debug!(%error, "the check of the identity backend failed");
                }
            }
        }
    }

    async fn check(&self, store: StoreId) -> Result<(), String> {
        let (digest, deadline) = (Digest::from_bytes([0; 32]), Instant::now());
        let context = ScanContext { subject: digest.into(), store, channel: None, deadline };
        let request = LookupRequest { kind: Kind::IdentityKey, value: "", digest, context: &context };
        match timeout(self.limits.timeout, self.ask_made_up(CHECK_PREFIX, &request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(NoAnswer::Unreachable(cause) | NoAnswer::Failed(cause))) => Err(cause),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}
