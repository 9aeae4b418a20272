//! Signatures of Scan Key Codes: who has no key makes none, and changes none that was made.
//!
//! A signature is [`SIGNATURE_LENGTH`] letters and digits, which hold 101 bits: the first 16 bytes of an HMAC-SHA-256 as a number, most
//! significant byte first, its remainder by 62 to the 17th written to the base of 62 (`0` to `9`, `A` to `Z`, `a` to `z`, the most
//! significant digit first). What is hashed is a purpose and the code, each behind its length as eight bytes.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

/// How many letters and digits a signature has.
pub const SIGNATURE_LENGTH: usize = 17;

/// Not one that `HashKey` knows: who gives one key to both has no signature in the database.
const PURPOSE: &[u8] = b"scan key code signature";
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The keys of signatures, at least one. The first signs and all verify, so that keys change without an interruption. They cannot be
/// printed.
#[derive(Clone)]
pub struct SigningKeys {
    first: Hmac<Sha256>,
    others: Vec<Hmac<Sha256>>,
}

impl SigningKeys {
    /// The keys of these bytes, of any length, in their order. `None` when there are none.
    #[must_use]
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Option<Self> {
        let mut keys = keys.into_iter().map_while(|key| Hmac::new_from_slice(key.as_ref()).ok()); // HMAC takes any length
        let first = keys.next()?;
        Some(Self { first, others: keys.collect() })
    }

    /// Signs all of a code that stands before its signature.
    pub(super) fn sign(&self, code: &str) -> String {
        signature(&self.first, code).into_iter().map(char::from).collect()
    }

    /// Whether one of the keys made this signature. How long that takes tells nothing of the right one.
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
    // As many digits as there is room for: what is left of the number goes.
    for place in signature.iter_mut().rev() {
        let digit = usize::try_from(number.rem_euclid(62)).unwrap_or_default();
        *place = DIGITS.get(digit).copied().unwrap_or_default();
        number = number.div_euclid(62);
    }
    signature
}
