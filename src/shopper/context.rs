//! The customer context, which an app sends together with its bearer token. It is opaque, sealed with AES-256-GCM and
//! bound to one token, so it expires with that token. It is refused with any other token, including a renewed one.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::digest::Digest;
use crate::shopper::tokens::Refusal;

/// The length of a key, in bytes.
pub(crate) const KEY_LENGTH: usize = 32;
/// The first byte of every context. A later format will use another value.
const VERSION: u8 = 1;
const NONCE_LENGTH: usize = 12;

/// The keys of customer contexts: the first seals, all can open.
#[derive(Clone, Debug)]
pub struct ContextKeys(Arc<[RandomizedNonceKey]>);

impl ContextKeys {
    /// `None` if there is no key, or a key does not have [`KEY_LENGTH`] bytes.
    pub(crate) fn new(keys: &[SecretSlice<u8>]) -> Option<Self> {
        let keys: Result<Vec<_>, Unspecified> =
            keys.iter().map(|key| RandomizedNonceKey::new(&AES_256_GCM, key.expose_secret())).collect();
        keys.ok().filter(|keys| !keys.is_empty()).map(|keys| Self(keys.into()))
    }

    /// Makes the context of a customer for the holder of this token. `None` only if a cryptographic operation fails.
    pub(crate) fn seal(&self, customer: &Digest, token: &str) -> Option<String> {
        let mut sealed = customer.as_bytes().to_vec();
        let nonce = self.0.first()?.seal_in_place_append_tag(bound_to(token), &mut sealed).ok()?;
        let context = [&[VERSION], nonce.as_ref().as_slice(), &sealed].concat();
        Some(BASE64_URL_SAFE_NO_PAD.encode(context))
    }

    /// Refuses a context that was made for another customer or token, or not by this connector.
    pub(crate) fn check(&self, context: &str, customer: &Digest, token: &str) -> Result<(), Refusal> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(context).map_err(|_| Refusal::WrongContext)?;
        let Some((&[VERSION], rest)) = bytes.split_first_chunk::<1>() else { return Err(Refusal::WrongContext) };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LENGTH>().ok_or(Refusal::WrongContext)?;
        let opened = self.0.iter().any(|key| {
            let mut sealed = sealed.to_vec();
            let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), bound_to(token), &mut sealed);
            opened.is_ok_and(|opened| opened.ct_eq(customer.as_bytes()).into())
        });
        if opened { Ok(()) } else { Err(Refusal::WrongContext) }
    }
}

fn bound_to(token: &str) -> Aad<[u8; 32]> {
    Aad::from(Sha256::digest(token).into())
}
