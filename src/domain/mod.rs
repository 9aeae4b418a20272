//! The rules and the vocabulary: what a scan is, which visitors may enter, and how a Scan Key Code is written and read.
//!
//! Code in this module is pure and synchronous: it does no I/O, reads no clock and knows no wire format. Every rule can
//! be tested with a function call.

pub mod code_signature;
pub mod customer;
pub mod decision;
pub mod identity_key;
pub mod ids;
pub mod scan;
pub mod scan_key_code;
pub mod store;
pub mod timestamp;
pub mod visitor;
pub mod words;
