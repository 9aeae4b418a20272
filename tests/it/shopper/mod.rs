//! How a shopper's app is authenticated (anonymous tokens, tokens of OpenID providers, customer contexts), carts, and
//! Scan Key Codes.

pub(crate) mod authorization_key;
pub(crate) mod bodies;
pub(crate) mod cart_migration;
pub(crate) mod cart_owners;
pub(crate) mod cart_requests;
pub(crate) mod carts;
pub(crate) mod contexts;
pub(crate) mod cors;
pub(crate) mod customers;
pub(crate) mod discovery;
pub(crate) mod key_rotation;
pub(crate) mod limits;
pub(crate) mod phones;
pub(crate) mod port;
pub(crate) mod provider_keys;
pub(crate) mod provider_tokens;
pub(crate) mod random;
pub(crate) mod real_provider;
pub(crate) mod recognition;
pub(crate) mod rotation;
pub(crate) mod scan_key_codes;
pub(crate) mod scan_key_pictures;
pub(crate) mod scan_key_traces;
pub(crate) mod status_line;
pub(crate) mod tokens;
pub(crate) mod unread_answers;
