//! Signatures of Scan Key Codes. Without a key, a client can neither make a code nor change one.
//!
//! A signature is [`SIGNATURE_LENGTH`] letters and digits, which hold 101 bits. It is made as follows:
//!
//! 1. Compute an HMAC-SHA-256 over the text `scan key code signature` and the code, each preceded by its length as
//!    eight bytes.
//! 2. Read the first 16 bytes as a number, most significant byte first, and take it modulo 62 to the power 17.
//! 3. Write the result in base 62 (`0` to `9`, `A` to `Z`, `a` to `z`), most significant digit first.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

/// The length of a signature, in letters and digits.
pub(crate) const SIGNATURE_LENGTH: usize = 17;

/// The text that separates these signatures from the digests of `HashKey`, in case an operator uses one key for both.
const PURPOSE: &[u8] = b"scan key code signature";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The signing keys, at least one. The first signs and all verify, so keys can be rotated without interruption. They
/// cannot be printed.
#[derive(Clone)]
pub struct SigningKeys {
    first: Hmac<Sha256>,
    others: Vec<Hmac<Sha256>>,
}

impl SigningKeys {
    /// Takes keys of any length, in order. `None` if there are none.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Option<Self> {
        // HMAC accepts keys of any length.
        let mut keys = keys.into_iter().map_while(|key| Hmac::new_from_slice(key.as_ref()).ok());
        let first = keys.next()?;
        Some(Self { first, others: keys.collect() })
    }

    /// The signature of a code that has none yet.
    pub(super) fn sign(&self, code: &str) -> String {
        signature(&self.first, code).into_iter().map(char::from).collect()
    }

    /// Whether one of the keys made this signature. The comparison takes constant time.
    pub(super) fn verify(&self, code: &str, given: &str) -> bool {
        let keys = [&self.first].into_iter().chain(&self.others);
        let verified =
            keys.fold(Choice::from(0), |verified, key| verified | signature(key, code).ct_eq(given.as_bytes()));
        verified.into()
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

fn signature(key: &Hmac<Sha256>, code: &str) -> [u8; SIGNATURE_LENGTH] {
    let mut mac = key.clone();
    for part in [PURPOSE, code.as_bytes()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    let mac = mac.finalize().into_bytes();
    let mut number = mac.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let mut signature = [0; SIGNATURE_LENGTH];
    // Keep the lowest 17 digits.
    for character in signature.iter_mut().rev() {
        let digit = usize::try_from(number.rem_euclid(62)).unwrap_or_default();
        *character = DIGITS.get(digit).copied().unwrap_or_default();
        number = number.div_euclid(62);
    }
    signature
}
