//! The look-ups of a scan: the store, and the shopper of a key or token.
//!
//! The directory's own rows come first. Only keys and tokens that the directory does not have are looked up at
//! the identity backend, so the backend cannot change a registered or issued one.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::remote::LookupRequest;
use super::{Backend, Directory, DirectoryError, Kind, Registration};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::domain::ids::StoreId;
use crate::domain::scan::KeyChannel;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::Store;

/// The scan that causes the look-up.
#[derive(Clone, Debug)]
pub struct ScanContext {
    /// Its subject for the circuit breaker.
    pub subject: Subject,
    /// The store.
    pub store: StoreId,
    /// How the key was read, if the gate says so.
    pub channel: Option<KeyChannel>,
    /// The deadline of the scan's answer.
    pub deadline: Instant,
}

impl Directory {
    /// The store with this id. `subject` is the scan's, for the circuit breaker.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn store(&self, id: &StoreId, subject: Subject) -> Result<Option<Arc<Store>>, DirectoryError> {
        self.inject_fault().await?;
        match &self.backend {
            // No store has such an id, and PostgreSQL would refuse the query.
            _ if id.as_str().contains('\0') => Ok(None),
            Backend::Memory(directory) => Ok(directory.store(id)),
            Backend::Sql(directory) => directory.store(id, subject).await,
        }
    }

    /// The registration of an identity key, compared exactly.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn identity_key(&self, key: &str, context: &ScanContext) -> Result<Option<Registration>, DirectoryError> {
        let digest = self.hash_key.identity_key(key);
        if let Some(faults) = &self.faults {
            faults.inject_for_key(&digest).await?;
        }
        let found = match &self.backend {
            Backend::Memory(directory) => directory.registration(Kind::IdentityKey, digest),
            Backend::Sql(directory) => directory.identity_key(digest, context.subject).await?,
        };
        self.or_ask_remote(found, Kind::IdentityKey, key, digest, context).await
    }

    /// The registration of a recognition token at `now`, whether it is registered or [issued](Directory::issue).
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn recognition_token(
        &self,
        token: &RecognitionToken,
        now: DateTime<Utc>,
        context: &ScanContext,
    ) -> Result<Option<Registration>, DirectoryError> {
        self.inject_fault().await?;
        let digest = self.hash_key.recognition_token(token);
        let found = match &self.backend {
            Backend::Memory(directory) => directory.token(digest, now),
            Backend::Sql(directory) => directory.recognition_token(digest, now, context.subject).await?,
        };
        self.or_ask_remote(found, Kind::RecognitionToken, token.expose(), digest, context).await
    }

    /// The time until which an app was told that its code with this token is valid. `None` unless the token was
    /// [issued](Directory::issue) and has not expired.
    ///
    /// # Errors
    /// When the look-up fails.
    pub async fn promised_until(
        &self,
        token: &RecognitionToken,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<DateTime<Utc>>, DirectoryError> {
        self.inject_fault().await?;
        let digest = self.hash_key.recognition_token(token);
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.promised_until(digest, now)),
            Backend::Sql(directory) => directory.promised_until(digest, now, subject).await,
        }
    }

    pub(super) async fn inject_fault(&self) -> Result<(), DirectoryError> {
        match &self.faults {
            Some(faults) => faults.inject().await,
            None => Ok(()),
        }
    }

    async fn or_ask_remote(
        &self,
        found: Option<Registration>,
        kind: Kind,
        value: &str,
        digest: Digest,
        context: &ScanContext,
    ) -> Result<Option<Registration>, DirectoryError> {
        match &self.remote {
            Some(remote) if found.is_none() => {
                // Boxed, so that the future of a scan without an identity backend stays small.
                Box::pin(remote.look_up(LookupRequest { kind, value, digest, context })).await
            }
            _ => Ok(found),
        }
    }
}
