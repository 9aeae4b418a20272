//! The callers of the gate's API and the stores that each may send scans for. A caller is identified by an API key or
//! by the subject of a client certificate.
//!
//! Only the SHA-256 of a key is stored. This module knows neither HTTP nor TLS: it gets the credentials of a request.
//! An auth event is decided once, also if several callers send it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::domain::ids::StoreId;

/// The SHA-256 of an API key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// The digest of a key.
    pub fn from_key(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Reads 64 hexadecimal digits, as `sha256sum` prints them. `None` for anything else.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }
}

/// Hides the digest, to keep it out of logs.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// The stores that a caller may send scans for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stores {
    /// All stores.
    All,
    /// Only these stores.
    Only(HashSet<StoreId>),
}

/// A configured caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The name in logs, metrics and rate limits.
    pub name: Arc<str>,
    /// The digests of its API keys: one, or two while the key is being changed.
    pub keys: Vec<KeyDigest>,
    /// The subject of its client certificate, as RFC 4514 writes it.
    pub certificate_subject: Option<String>,
    /// The stores that it may send scans for.
    pub stores: Stores,
}

impl Caller {
    /// Whether the caller may send scans for this store.
    pub fn may_use(&self, store: &StoreId) -> bool {
        match &self.stores {
            Stores::All => true,
            Stores::Only(stores) => stores.contains(store),
        }
    }
}

/// The credentials of a request.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    pub api_key: Option<&'a [u8]>,
    /// The subject of a verified client certificate.
    pub certificate_subject: Option<&'a str>,
}

/// Why a request has no known caller. No message repeats a key.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum UnknownCaller {
    #[error("no API key and no client certificate")]
    NoCredentials,
    #[error("unknown API key")]
    WrongApiKey,
    #[error("no caller has client certificate subject {0:?}")]
    UnknownSubject(String),
    #[error("the API key and the client certificate belong to different callers")]
    TwoCallers,
}

/// All callers. Clones share them. They can be replaced at any time; the next request uses the new ones.
#[derive(Clone, Debug)]
pub struct Callers(Arc<RwLock<Arc<Index>>>);

#[derive(Debug, Default)]
struct Index {
    by_key: HashMap<KeyDigest, Arc<Caller>>,
    by_subject: HashMap<String, Arc<Caller>>,
}

impl Callers {
    /// Creates the list of callers. If there are none, unauthenticated requests are allowed.
    pub fn new(callers: Vec<Caller>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Index::new(callers)))))
    }

    /// Replaces all callers.
    pub fn replace(&self, callers: Vec<Caller>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Index::new(callers));
    }

    /// Whether no caller is configured, so that unauthenticated requests are allowed.
    pub fn is_empty(&self) -> bool {
        self.index().is_empty()
    }

    /// The caller with these credentials; `None` if no caller is configured. If there are both a key and a certificate
    /// of a caller, they must belong to the same one.
    ///
    /// # Errors
    /// If no caller has these credentials.
    pub fn identify(&self, credentials: Credentials<'_>) -> Result<Option<Arc<Caller>>, UnknownCaller> {
        let index = self.index();
        if index.is_empty() {
            return Ok(None);
        }
        // The look-up uses the digest, so its duration reveals nothing about the configured keys.
        let by_key = credentials
            .api_key
            .map(|key| index.by_key.get(&KeyDigest::from_key(key)).ok_or(UnknownCaller::WrongApiKey));
        let by_subject = credentials.certificate_subject.map(|subject| {
            index.by_subject.get(subject).ok_or_else(|| UnknownCaller::UnknownSubject(subject.to_owned()))
        });
        match (by_key.transpose()?, by_subject) {
            (None, None) => Err(UnknownCaller::NoCredentials),
            (None, Some(caller)) => caller.map(Arc::clone).map(Some),
            (Some(caller), Some(Ok(other))) if caller.name != other.name => Err(UnknownCaller::TwoCallers),
            // An unknown certificate may belong to a proxy in front; the key identifies the caller.
            (Some(caller), _) => Ok(Some(Arc::clone(caller))),
        }
    }

    /// The lock is held only for the clone, never across an await.
    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Index {
    fn new(callers: Vec<Caller>) -> Self {
        let mut index = Self::default();
        for caller in callers.into_iter().map(Arc::new) {
            index.by_key.extend(caller.keys.iter().map(|key| (*key, Arc::clone(&caller))));
            index
                .by_subject
                .extend(caller.certificate_subject.iter().map(|subject| (subject.clone(), Arc::clone(&caller))));
        }
        index
    }

    fn is_empty(&self) -> bool {
        self.by_key.is_empty() && self.by_subject.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str, keys: &[&str], subject: Option<&str>) -> Caller {
        let keys = keys.iter().map(|key| KeyDigest::from_key(key.as_bytes())).collect();
        Caller { name: name.into(), keys, certificate_subject: subject.map(str::to_owned), stores: Stores::All }
    }

    fn identify(
        callers: &Callers,
        api_key: Option<&str>,
        certificate_subject: Option<&str>,
    ) -> Result<String, UnknownCaller> {
        let credentials = Credentials { api_key: api_key.map(str::as_bytes), certificate_subject };
        callers
            .identify(credentials)
            .map(|caller| caller.map_or("unauthenticated".to_owned(), |caller| caller.name.to_string()))
    }

    #[test]
    fn a_caller_is_identified_by_either_of_two_keys_or_by_a_certificate() {
        let callers = Callers::new(vec![caller("a", &["old", "new"], Some("CN=a")), caller("b", &["b"], None)]);
        for (key, subject, expected) in [
            (Some("old"), None, Ok("a")),
            (Some("new"), None, Ok("a")),
            (Some("b"), None, Ok("b")),
            (None, Some("CN=a"), Ok("a")),
            (Some("new"), Some("CN=a"), Ok("a")),
            (Some("b"), Some("CN=proxy"), Ok("b")),
            (Some("b"), Some("CN=a"), Err(UnknownCaller::TwoCallers)),
            (Some("B"), Some("CN=a"), Err(UnknownCaller::WrongApiKey)),
            (Some(""), None, Err(UnknownCaller::WrongApiKey)),
            (None, Some("CN=A"), Err(UnknownCaller::UnknownSubject("CN=A".to_owned()))),
            (None, None, Err(UnknownCaller::NoCredentials)),
        ] {
            assert_eq!(identify(&callers, key, subject), expected.map(str::to_owned), "{key:?} {subject:?}");
        }
    }

    #[test]
    fn unauthenticated_requests_are_allowed_only_while_no_caller_is_configured() {
        let callers = Callers::new(Vec::new());
        assert_eq!(identify(&callers, None, None), Ok("unauthenticated".to_owned()));
        callers.replace(vec![caller("a", &["a"], None)]);
        assert_eq!(identify(&callers, None, None), Err(UnknownCaller::NoCredentials));
        callers.replace(vec![caller("b", &["b"], None)]);
        assert_eq!(identify(&callers, Some("a"), None), Err(UnknownCaller::WrongApiKey));
    }
}
