//! Keyed hashes: identity keys, recognition tokens and fingerprints are stored and compared only as HMAC-SHA-256.
//!
//! A stored digest cannot be used at a gate.

use secrecy::SecretString;
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

/// The secret key of all hashes: 32 bytes. It cannot be printed.
#[derive(Clone)]
pub struct HashKey(Hmac<Sha256>);

/// The text is not a hash key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be 32 bytes in Base64: create it with `openssl rand -base64 32`")]
pub struct HashKeyError;

impl HashKey {
    /// Reads 32 bytes in Base64.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn from_base64(text: &str) -> Result<Self, HashKeyError> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(|bytes| Self::new(&bytes)).ok_or(HashKeyError)
    }

    /// A value that a database stores to recognize its key. It reveals nothing about the key.
    pub fn check_value(&self) -> [u8; 32] {
        self.digest(b"check", &[]).0
    }

    /// A hash key of the given bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        // HMAC pads a key that is shorter than the block with zeros.
        let mut block = [0; 64];
        for (to, from) in block.iter_mut().zip(bytes) {
            *to = *from;
        }
        Self(Hmac::new(&block.into()))
    }

    /// A new random key.
    ///
    /// # Errors
    /// If the operating system provides no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Self::new(&bytes))
    }

    /// The digest of an identity key, as it is scanned.
    pub fn identity_key(&self, key: &str) -> Digest {
        self.digest(b"identity key", &[key.as_bytes()])
    }

    /// The digest of a recognition token.
    pub fn recognition_token(&self, token: &RecognitionToken) -> Digest {
        self.digest(b"recognition token", &[token.expose().as_bytes()])
    }

    /// The digest of a used Scan Key Code, without its signature.
    pub fn used_code(&self, code: &str) -> Digest {
        self.digest(b"used scan key code", &[code.as_bytes()])
    }

    /// The fingerprint of a scan: decoded key, store and location. Two scans of one event are the same if it is equal.
    pub fn fingerprint(&self, key: &IdentityKey, store: &StoreId, location: Location) -> Fingerprint {
        let parts = [key.as_bytes(), store.as_str().as_bytes(), location.as_str().as_bytes()];
        Fingerprint(self.digest(b"fingerprint", &parts))
    }

    /// The digest under which the data of a customer of the shopper API is stored.
    pub fn customer(&self, customer: &Customer) -> Digest {
        match customer {
            Customer::Anonymous(id) => self.digest(b"anonymous customer", &[id.expose_bytes()]),
            Customer::Known { issuer, subject } => {
                self.digest(b"customer", &[issuer.as_str().as_bytes(), subject.as_str().as_bytes()])
            }
        }
    }

    /// The pseudonym of an erased visitor. It is the same everywhere, and does not reveal the visitor.
    pub fn pseudonym(&self, visitor: &VisitorId) -> VisitorId {
        let digest = self.digest(b"pseudonym", &[visitor.as_str().as_bytes()]);
        let mut name = digest.to_hex();
        name.truncate(32);
        VisitorId::parse(&format!("erased-{name}")).unwrap_or_else(|_| visitor.clone())
    }

    /// Each part is preceded by its length, so that different lists of parts never have the same bytes.
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
    /// A digest from stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest in hexadecimal. It names a key that must not be shown, and cannot be used at a gate.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Reads 64 hexadecimal digits.
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

/// The keyed hash of a scan's key, store and location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(Digest);

impl Fingerprint {
    /// A fingerprint from stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Digest(bytes))
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

/// The length of a new secret: that of a recognition token.
const SECRET_LENGTH: usize = 32;

/// A new secret of letters and digits, from the operating system's random numbers. It can be a recognition token.
///
/// # Errors
/// When the operating system provides no random numbers.
pub(crate) fn new_secret() -> Result<SecretString, getrandom::Error> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut secret = String::with_capacity(SECRET_LENGTH);
    let mut bytes = [0; SECRET_LENGTH];
    while secret.len() < SECRET_LENGTH {
        getrandom::fill(&mut bytes)?;
        // Six bits give 64 values. The two values beyond the alphabet are skipped, so that all characters are equally
        // likely.
        let drawn = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 63)));
        let missing = SECRET_LENGTH.saturating_sub(secret.len());
        secret.extend(drawn.take(missing).copied().map(char::from));
    }
    Ok(secret.into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret;

    use super::*;

    /// The expected value comes from another implementation, Python's `hmac`: the key is 32 bytes of 0x01; the message
    /// is `identity key` and `a`, each preceded by its length in eight bytes.
    #[test]
    fn digests_are_hmac_sha_256() {
        let key = HashKey::new(&[1; 32]);
        let hex: String = key.identity_key("a").0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "7cdbae4c14adfad1b04850241fe839a9d59b545ae3e7c0fba43baeac2fdcf13a");
    }

    #[test]
    fn different_purposes_and_parts_have_different_digests() {
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

    #[test]
    fn secret_is_32_letters_and_digits_of_the_whole_alphabet() {
        let secrets: Vec<_> = (0..200).map(|_| new_secret().expect("randomness")).collect();
        for secret in &secrets {
            let secret = secret.expose_secret();
            assert!(secret.len() == 32 && secret.chars().all(|c| c.is_ascii_alphanumeric()));
        }
        let characters: HashSet<char> = secrets.iter().flat_map(|secret| secret.expose_secret().chars()).collect();
        let different: HashSet<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!((characters.len(), different.len()), (62, 200));
    }
}
