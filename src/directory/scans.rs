//! What a scan asks: the store, and who a key or token belongs to.
//!
//! What is registered or issued here counts first, and so nothing that the retailer's own system says changes it; that one is asked only
//! about what is not known here.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::remote::Question;
use super::{Backend, Directory, DirectoryError, Kind, Registration};
use crate::breaker::Subject;
use crate::digest::Digest;
use crate::domain::ids::StoreId;
use crate::domain::scan::KeyChannel;
use crate::domain::scan_key_code::RecognitionToken;
use crate::domain::store::Store;

/// Whose scan asks about a key or token, and from where.
#[derive(Clone, Debug)]
pub struct Asker {
    /// Whose scan.
    pub subject: Subject,
    /// At which store.
    pub store: StoreId,
    /// How the key was read, when the gate says so.
    pub channel: Option<KeyChannel>,
    /// When the scan must be answered.
    pub deadline: Instant,
}

impl Directory {
    /// The store of that name; `subject` tells whose scan asks.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn store(&self, id: &StoreId, subject: Subject) -> Result<Option<Arc<Store>>, DirectoryError> {
        self.apply_fault().await?;
        match &self.backend {
            // No store has such a name, and PostgreSQL would refuse the question.
            _ if id.as_str().contains('\0') => Ok(None),
            Backend::Memory(directory) => Ok(directory.store(id)),
            Backend::Sql(directory) => directory.store(id, subject).await,
        }
    }

    /// What is known of an identity key, compared exactly.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn identity_key(&self, key: &str, asker: &Asker) -> Result<Option<Registration>, DirectoryError> {
        let digest = self.hash_key.identity_key(key);
        if let Some(faults) = &self.faults {
            faults.apply_to_key(&digest).await?;
        }
        let found = match &self.backend {
            Backend::Memory(directory) => directory.registration(Kind::IdentityKey, digest),
            Backend::Sql(directory) => directory.identity_key(digest, asker.subject).await?,
        };
        self.or_ask(found, Kind::IdentityKey, key, digest, asker).await
    }

    /// What is known at `now` of a recognition token, registered or [issued](Directory::issue).
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn recognition_token(
        &self,
        token: &RecognitionToken,
        now: DateTime<Utc>,
        asker: &Asker,
    ) -> Result<Option<Registration>, DirectoryError> {
        self.apply_fault().await?;
        let digest = self.hash_key.recognition_token(token);
        let found = match &self.backend {
            Backend::Memory(directory) => directory.token(digest, now),
            Backend::Sql(directory) => directory.recognition_token(digest, now, asker.subject).await?,
        };
        self.or_ask(found, Kind::RecognitionToken, token.expose(), digest, asker).await
    }

    /// Until when an app was told that its code with this token is valid, if the token was [issued](Directory::issue) and has not expired.
    ///
    /// # Errors
    /// When the directory cannot tell.
    pub async fn promised_until(
        &self,
        token: &RecognitionToken,
        now: DateTime<Utc>,
        subject: Subject,
    ) -> Result<Option<DateTime<Utc>>, DirectoryError> {
        self.apply_fault().await?;
        let digest = self.hash_key.recognition_token(token);
        match &self.backend {
            Backend::Memory(directory) => Ok(directory.promised_until(digest, now)),
            Backend::Sql(directory) => directory.promised_until(digest, now, subject).await,
        }
    }

    pub(super) async fn apply_fault(&self) -> Result<(), DirectoryError> {
        match &self.faults {
            Some(faults) => faults.apply().await,
            None => Ok(()),
        }
    }

    async fn or_ask(
        &self,
        found: Option<Registration>,
        kind: Kind,
        value: &str,
        digest: Digest,
        asker: &Asker,
    ) -> Result<Option<Registration>, DirectoryError> {
        match &self.remote {
            Some(remote) if found.is_none() => {
                // On the heap: the future of a scan that asks no backend stays small.
                Box::pin(remote.look_up(Question { kind, value, digest, asker })).await
            }
            _ => Ok(found),
        }
    }
}
