//! Black-box tests of the API contract (`docs/api.md`), rule by rule, against a running service over real sockets.
//!
//! Amazon's published test cases are in `tests/published_cases`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a panic fails the test and names the line"
)]

#[path = "../support/mod.rs"]
mod support;

use support::checks;

mod tls;
mod wire;

mod administration;
mod architecture;
mod body;
mod callers;
mod connections;
mod container;
mod decision;
mod demo;
mod demo_issuer;
mod failure;
mod formats;
mod headers;
mod identity;
mod json;
mod lengths;
mod management;
mod members;
mod metrics;
mod openapi;
mod overload;
mod peers;
mod properties;
mod rate_limit;
mod routing;
mod scan_key;
mod scan_key_age;
mod stop;
mod traces;
mod trusted_proxies;
mod validation;
