//! The retailer's Identity Connector for Just Walk Out gates.
//!
//! A shopper shows a code at a gate. Amazon's Identity Gateway sends it to the connector, and needs an answer within
//! two seconds. A scan passes through these modules:
//!
//! ```text
//! bytes → request (http::wire) → shopper (directory) → decision (domain::decision)
//!       → record (ledger: the first record wins) → answer (http::answer)
//! ```
//!
//! [`connector`] makes and records the decision, without HTTP. [`administration`] shows and changes stores, shoppers
//! and keys. [`commerce`] is the shopper API: it identifies the customer of an app and creates codes for the gate;
//! [`carts`] stores carts. [`app`] builds and runs everything, for the binary and the tests. [`gate`] simulates
//! Amazon's side.
//!
//! A module imports only modules above it in the list below; `tests/it/architecture.rs` checks this.

pub mod domain;

pub mod clock;

pub mod cache;

pub mod cause;

pub mod digest;

pub mod breaker;

pub mod loopback;

pub mod metrics;

pub mod traces;

pub mod storage;

pub mod directory;

pub mod ledger;

pub mod carts;

pub mod transfer;

pub mod rate_limit;

pub mod callers;

pub mod administration;

pub mod commerce;

pub mod demo_issuer;

pub mod tls;

pub mod config;

pub mod telemetry;

pub mod server;

pub mod connector;

pub mod http;

pub mod app;

pub mod gate;

pub mod cli;
