//! The rules and the vocabulary: what a scan is, which visitors may enter, and how a Scan Key Code is written and read.
//!
//! Code in this module is pure and synchronous: it does no I/O, reads no clock and knows no wire format. Every rule can
//! be tested with a function call.

pub(crate) mod customer;
pub(crate) mod decision;
pub(crate) mod identity_key;
pub(crate) mod ids;
pub(crate) mod scan;
pub(crate) mod scan_key_code;
pub(crate) mod store;
pub(crate) mod visitor;
pub(crate) mod words;
