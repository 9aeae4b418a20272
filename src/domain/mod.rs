//! The rules and the words: what a scan is, who may enter, and how a Scan Key Code is written and read.
//!
//! Nothing in here does I/O, reads a clock, knows a wire format or awaits. Every rule can be tested by calling it.

pub mod cart;
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
