//! The retailer's Identity Connector for Just Walk Out gates.
//!
//! A shopper shows a code at a gate. Amazon's Identity Gateway sends it to the connector, and needs an answer within
//! two seconds. A scan passes through these modules:
//!
//! ```text
//! bytes → request (gate_api::request) → shopper (directory) → decision (domain::decision)
//!       → record (ledger: the first record wins) → answer (gate_api::answer)
//! ```
//!
//! [`verify`] makes and records the decision, without HTTP. [`admin`] shows and changes stores, shoppers and keys.
//! [`shopper`] is the side of the shopper's app: it identifies a customer, keeps carts and creates codes for the gate.
//! [`app`] builds and runs everything, for the binary and the tests. [`simulator`] is Amazon's side.
//!
//! A module imports only modules above it in the list below; `tests/it/architecture.rs` checks this.

mod domain;

pub mod clock;

mod cause;

mod digest;

mod breaker;

mod outgoing;

mod cache;

mod observe;

mod storage;

mod directory;

mod ledger;

mod transfer;

mod rate_limit;

mod callers;

mod tls;

mod server;

mod http;

mod verify;

mod gate_api;

mod shopper;

mod admin;

mod demo;

pub mod config;

pub mod app;

mod simulator;

pub mod cli;

#[doc(hidden)]
pub mod testing;
