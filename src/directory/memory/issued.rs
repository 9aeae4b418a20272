//! Issued recognition tokens, in memory.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};

use crate::digest::Digest;
use crate::directory::change::IssuedToken;
use crate::domain::ids::{DeviceId, VisitorId};

/// The maximum number of tokens that one call of [`IssuedTokens::sweep_some`] deletes.
const BATCH: usize = 100;

/// Tokens by digest, with indexes by shopper and by expiry.
#[derive(Default)]
pub(super) struct IssuedTokens {
    tokens: HashMap<Digest, IssuedToken>,
    by_shopper: BTreeSet<(VisitorId, DateTime<Utc>, Digest)>,
    by_expiry: BTreeSet<(DateTime<Utc>, Digest)>,
}

impl IssuedTokens {
    /// The token of that digest, unless it has expired.
    pub(super) fn find(&self, digest: Digest, now: DateTime<Utc>) -> Option<&IssuedToken> {
        self.tokens.get(&digest).filter(|token| token.expires_at > now)
    }

    /// Adds a token. Removes expired tokens of its shopper, and the oldest ones above `at_most`.
    pub(super) fn issue(&mut self, token: IssuedToken, at_most: usize, now: DateTime<Utc>) {
        let others = self.tokens_of(&token.shopper); // the oldest first
        let too_many = others.len().saturating_sub(at_most.saturating_sub(1));
        for (number, (expires_at, digest)) in others.into_iter().enumerate() {
            if number < too_many || expires_at <= now {
                self.remove(digest);
            }
        }
        self.by_shopper.insert((token.shopper.clone(), token.expires_at, token.digest));
        self.by_expiry.insert((token.expires_at, token.digest));
        self.tokens.insert(token.digest, token);
    }

    /// Removes all tokens of a shopper.
    pub(super) fn remove_all_of(&mut self, shopper: &VisitorId) {
        for (_, digest) in self.tokens_of(shopper) {
            self.remove(digest);
        }
    }

    /// Removes a shopper's tokens for devices that are not in `others_than`.
    pub(super) fn remove_devices_of(&mut self, shopper: &VisitorId, others_than: &[DeviceId]) {
        for (_, digest) in self.tokens_of(shopper) {
            let device = self.tokens.get(&digest).and_then(|token| token.device.as_ref());
            if device.is_some_and(|device| !others_than.contains(device)) {
                self.remove(digest);
            }
        }
    }

    /// Removes some expired tokens, and returns whether there may be more.
    pub(super) fn sweep_some(&mut self, now: DateTime<Utc>) -> bool {
        let expired = self.by_expiry.iter().take_while(|(expires_at, _)| *expires_at <= now).take(BATCH);
        let expired: Vec<_> = expired.map(|(_, digest)| *digest).collect();
        expired.iter().for_each(|digest| self.remove(*digest));
        expired.len() == BATCH
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    fn tokens_of(&self, shopper: &VisitorId) -> Vec<(DateTime<Utc>, Digest)> {
        let least = (shopper.clone(), DateTime::<Utc>::MIN_UTC, Digest::from_bytes([0; 32]));
        let tokens = self.by_shopper.range(least..).take_while(|(owner, ..)| owner == shopper);
        tokens.map(|(_, expires_at, digest)| (*expires_at, *digest)).collect()
    }

    fn remove(&mut self, digest: Digest) {
        if let Some(IssuedToken { shopper, expires_at, .. }) = self.tokens.remove(&digest) {
            self.by_shopper.remove(&(shopper, expires_at, digest));
            self.by_expiry.remove(&(expires_at, digest));
        }
    }
}
