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

pub mod domain;

pub mod clock;

pub mod cause;

pub mod digest;

pub mod breaker;

pub mod loopback;

pub mod cache;

pub mod observe;

pub mod storage;

pub mod directory;

pub mod ledger;

pub mod transfer;

pub mod rate_limit;

pub mod callers;

pub mod tls;

pub mod server;

pub mod http;

pub mod verify;

pub mod gate_api;

pub mod shopper;

pub mod admin;

pub mod demo;

pub mod config;

pub mod app;

pub mod simulator;

pub mod cli;
