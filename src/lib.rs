//! The retailer's Identity Connector for Just Walk Out gates.
//!
//! A shopper shows a code at a gate; Amazon's Identity Gateway asks, and has two seconds to learn whether to open. Read in the
//! order in which a scan travels:
//!
//! ```text
//! bytes → request (http::wire) → who is this? (directory) → may they? (domain::decision)
//!       → remember it (ledger: the first record wins) → answer (http::answer)
//! ```
//!
//! [`connector`] is that journey without HTTP, [`administration`] what is done about those who are known. [`commerce`] is the shopper's
//! side: who an app speaks for, and the code that it shows at the gate; what is in its carts, [`carts`] keeps. [`app`] puts
//! everything together and runs it, for the binary and for the tests alike. [`gate`] stands on the other side of the wire. Imports
//! point one way: a module knows only those that stand above it in the list below, as `tests/service/architecture.rs` checks.

pub mod domain;

pub mod clock;

pub mod cause;

pub mod digest;

pub mod breaker;

pub mod loopback;

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

pub mod metrics;

pub mod connector;

pub mod http;

pub mod server;

pub mod app;

pub mod gate;

pub mod cli;
