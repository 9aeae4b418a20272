//! Who may call the gate's API, and for which stores: known by an API key or by the subject of a client certificate.
//!
//! Of a key only its SHA-256 is here. Knows no HTTP and no TLS: it is told what a request brings along. What a caller may
//! ask does not depend on who asked before: an auth event is decided once, whichever caller it comes by.

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
    /// Of a key as it is sent.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// As `sha256sum` writes it: 64 hexadecimal digits. `None` for anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok().map(|()| Self(bytes))
    }
}

/// It is of no use to whoever reads it, but need not stand in a log either.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}

/// Which stores a caller may speak for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stores {
    /// All that there are.
    All,
    /// These.
    Only(HashSet<StoreId>),
}

/// Somebody who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What logs, metrics and rate limits call them.
    pub name: Arc<str>,
    /// The digests of the keys that they may send: one, or two while it is changed.
    pub keys: Vec<KeyDigest>,
    /// The subject of the client certificate that they may show, as RFC 4514 writes it.
    pub certificate_subject: Option<String>,
    /// Which stores they may speak for.
    pub stores: Stores,
}

impl Caller {
    /// Whether they may speak for this store.
    #[must_use]
    pub fn speaks_for(&self, store: &StoreId) -> bool {
        match &self.stores {
            Stores::All => true,
            Stores::Only(stores) => stores.contains(store),
        }
    }
}

/// What a request brings along.
#[derive(Clone, Copy, Default)]
pub struct Credentials<'a> {
    /// An API key.
    pub api_key: Option<&'a [u8]>,
    /// The subject of a client certificate that was verified.
    pub certificate_subject: Option<&'a str>,
}

/// Why a caller is not known. A key is not repeated.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unknown {
    /// Neither an API key nor a client certificate.
    #[error("neither an API key nor a client certificate")]
    NoCredentials,
    /// An API key that is nobody's.
    #[error("the API key is nobody's")]
    WrongApiKey,
    /// A client certificate that is nobody's.
    #[error("the client certificate is nobody's: its subject is {0:?}")]
    UnknownSubject(String),
    /// The API key of one, and the certificate of another.
    #[error("the API key is one caller's and the client certificate another's")]
    TwoCallers,
}

/// All callers: clones share them. They can be exchanged at any time, for the next request.
#[derive(Clone, Debug)]
pub struct Callers(Arc<RwLock<Arc<Known>>>);

#[derive(Debug, Default)]
struct Known {
    by_key: HashMap<KeyDigest, Arc<Caller>>,
    by_subject: HashMap<String, Arc<Caller>>,
}

impl Callers {
    /// These; none means that anybody may call.
    #[must_use]
    pub fn new(callers: Vec<Caller>) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(Known::new(callers)))))
    }

    /// From now on these.
    pub fn replace(&self, callers: Vec<Caller>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known::new(callers));
    }

    /// Whether anybody may call.
    #[must_use]
    pub fn is_anybody(&self) -> bool {
        self.known().is_anybody()
    }

    /// Who calls: `None` where anybody may. A key and a certificate that both come must be one caller's.
    ///
    /// # Errors
    /// When it is nobody who may.
    pub fn identify(&self, credentials: Credentials<'_>) -> Result<Option<Arc<Caller>>, Unknown> {
        let known = self.known();
        if known.is_anybody() {
            return Ok(None);
        }
        // Looked up by what was hashed: how long that takes says nothing about the keys that there are.
        let by_key = credentials.api_key.map(|key| known.by_key.get(&KeyDigest::of(key)).ok_or(Unknown::WrongApiKey));
        let by_subject = credentials
            .certificate_subject
            .map(|subject| known.by_subject.get(subject).ok_or_else(|| Unknown::UnknownSubject(subject.to_owned())));
        match (by_key.transpose()?, by_subject) {
            (None, None) => Err(Unknown::NoCredentials),
            (None, Some(caller)) => caller.map(Arc::clone).map(Some),
            (Some(caller), Some(Ok(other))) if caller.name != other.name => Err(Unknown::TwoCallers),
            // A certificate that names nobody may be that of a proxy on the way; the key says who calls.
            (Some(caller), _) => Ok(Some(Arc::clone(caller))),
        }
    }

    /// Held for a clone alone, never across an await.
    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn new(callers: Vec<Caller>) -> Self {
        let mut known = Self::default();
        for caller in callers.into_iter().map(Arc::new) {
            known.by_key.extend(caller.keys.iter().map(|key| (*key, Arc::clone(&caller))));
            known
                .by_subject
                .extend(caller.certificate_subject.iter().map(|subject| (subject.clone(), Arc::clone(&caller))));
        }
        known
    }

    fn is_anybody(&self) -> bool {
        self.by_key.is_empty() && self.by_subject.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(name: &str, keys: &[&str], subject: Option<&str>) -> Caller {
        let keys = keys.iter().map(|key| KeyDigest::of(key.as_bytes())).collect();
        Caller { name: name.into(), keys, certificate_subject: subject.map(str::to_owned), stores: Stores::All }
    }

    fn who(callers: &Callers, api_key: Option<&str>, certificate_subject: Option<&str>) -> Result<String, Unknown> {
        let credentials = Credentials { api_key: api_key.map(str::as_bytes), certificate_subject };
        callers
            .identify(credentials)
            .map(|caller| caller.map_or("anybody".to_owned(), |caller| caller.name.to_string()))
    }

    #[test]
    fn a_caller_is_known_by_either_of_two_keys_or_by_a_certificate() {
        let callers = Callers::new(vec![caller("a", &["old", "new"], Some("CN=a")), caller("b", &["b"], None)]);
        for (key, subject, expected) in [
            (Some("old"), None, Ok("a")),
            (Some("new"), None, Ok("a")),
            (Some("b"), None, Ok("b")),
            (None, Some("CN=a"), Ok("a")),
            (Some("new"), Some("CN=a"), Ok("a")),
            (Some("b"), Some("CN=proxy"), Ok("b")),
            (Some("b"), Some("CN=a"), Err(Unknown::TwoCallers)),
            (Some("B"), Some("CN=a"), Err(Unknown::WrongApiKey)),
            (Some(""), None, Err(Unknown::WrongApiKey)),
            (None, Some("CN=A"), Err(Unknown::UnknownSubject("CN=A".to_owned()))),
            (None, None, Err(Unknown::NoCredentials)),
        ] {
            assert_eq!(who(&callers, key, subject), expected.map(str::to_owned), "{key:?} {subject:?}");
        }
    }

    #[test]
    fn without_callers_anybody_may_call_and_from_the_moment_that_there_are_some_nobody_else() {
        let callers = Callers::new(Vec::new());
        assert_eq!(who(&callers, None, None), Ok("anybody".to_owned()));
        callers.replace(vec![caller("a", &["a"], None)]);
        assert_eq!(who(&callers, None, None), Err(Unknown::NoCredentials));
        callers.replace(vec![caller("b", &["b"], None)]);
        assert_eq!(who(&callers, Some("a"), None), Err(Unknown::WrongApiKey));
    }
}
