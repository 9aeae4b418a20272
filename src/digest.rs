//! Keyed hashes: identity keys, recognition tokens and fingerprints are kept and compared only as HMAC-SHA-256.
//!
//! What is looked up or remembered of a key is of no use at a gate.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;

use crate::domain::customer::Customer;
use crate::domain::identity_key::IdentityKey;
use crate::domain::ids::{StoreId, VisitorId};
use crate::domain::scan::Location;
use crate::domain::scan_key_code::RecognitionToken;

/// The secret under which everything is hashed: 32 bytes. It cannot be printed.
#[derive(Clone)]
pub struct HashKey(Hmac<Sha256>);

/// A text that is not a hash key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be 32 bytes in Base64, such as `openssl rand -base64 32` makes")]
pub struct HashKeyError;

impl HashKey {
    /// Reads 32 bytes in Base64.
    ///
    /// # Errors
    /// For anything else.
    pub fn from_base64(text: &str) -> Result<Self, HashKeyError> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| Self::new(&bytes)).ok_or(HashKeyError)
    }

    /// What a database remembers of its key, to know it again: it tells nothing about the key.
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        self.digest(b"check", &[]).0
    }

    /// A hash key of the given bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        // HMAC takes a key of any length up to the block size as it is: 32 bytes always fit.
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(Hmac::new(&block.into()))
    }

    /// A new one, from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::new(&bytes))
    }

    /// The digest of a key as its holder presents it.
    #[must_use]
    pub fn identity_key(&self, key: &str) -> Digest {
        self.digest(b"identity key", &[key.as_bytes()])
    }

    /// The digest of a recognition token.
    #[must_use]
    pub fn recognition_token(&self, token: &RecognitionToken) -> Digest {
        self.digest(b"recognition token", &[token.expose().as_bytes()])
    }

    /// The digest of a Scan Key Code that is used up, without its signature.
    #[must_use]
    pub fn used_code(&self, code: &str) -> Digest {
        self.digest(b"used scan key code", &[code.as_bytes()])
    }

    /// What makes two scans of one event the same scan: decoded key, store and location.
    #[must_use]
    pub fn fingerprint(&self, key: &IdentityKey, store: &StoreId, location: Location) -> Fingerprint {
        let parts = [key.as_bytes(), store.as_str().as_bytes(), location.as_str().as_bytes()];
        Fingerprint(self.digest(b"fingerprint", &parts))
    }

    /// What stands for a customer of the shopper's side wherever they own something.
    #[must_use]
    pub fn customer(&self, customer: &Customer) -> Digest {
        match customer {
            Customer::Anonymous(id) => self.digest(b"anonymous customer", &[id.expose_bytes()]),
            Customer::Known { issuer, subject } => {
                self.digest(b"customer", &[issuer.as_str().as_bytes(), subject.as_str().as_bytes()])
            }
        }
    }

    /// What stands for a visitor who was erased: the same wherever they were named, and of no use for finding out who they were.
    #[must_use]
    pub fn pseudonym(&self, visitor: &VisitorId) -> VisitorId {
        let digest = self.digest(b"pseudonym", &[visitor.as_str().as_bytes()]);
        let mut name = digest.to_hex();
        name.truncate(32);
        VisitorId::parse(&format!("erased-{name}")).unwrap_or_else(|_| visitor.clone())
    }

    /// Every part goes in with its length before it, so that no two lists of parts read the same.
    fn digest(&self, purpose: &[u8], parts: &[&[u8]]) -> Digest {
        let mut mac = self.0.clone();
        for part in [purpose].iter().chain(parts) {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Digest(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// The keyed hash of a key or token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes, as they were stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// In hexadecimal: how what cannot be shown is named. Of no use at a gate.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(…)")
    }
}

/// The keyed hash of what makes two scans of one event the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// The fingerprint of these bytes, as they were stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest(bytes))
    }

    /// Its bytes, to be stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value comes from another implementation (Python's `hmac`): key 32 bytes of 0x01, message `identity key` and `a`,
    /// each behind its length as eight bytes.
    #[test]
    fn it_is_hmac_sha_256() {
        let key = HashKey::new(&[1; 32]);
        let hex: String = key.identity_key("a").0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "7cdbae4c14adfad1b04850241fe839a9d59b545ae3e7c0fba43baeac2fdcf13a");
    }

    #[test]
    fn purposes_and_parts_do_not_run_together() {
        let key = HashKey::new(&[7; 32]);
        let token = RecognitionToken::parse(&"a".repeat(32)).expect("a token");
        assert_ne!(key.identity_key(&"a".repeat(32)), key.recognition_token(&token));
        let scanned = |text| IdentityKey::from_base64(text).expect("Base64");
        let store = |text| StoreId::parse(text).expect("an id");
        assert_ne!(
            key.fingerprint(&scanned("YWI="), &store("c"), Location::Entry),
            key.fingerprint(&scanned("YQ=="), &store("bc"), Location::Entry)
        );
    }
}
