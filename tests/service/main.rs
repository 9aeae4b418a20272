//! Black-box tests of the API contract (`docs/api.md`), rule by rule: the real service, a real socket, and nothing
//! known of what is behind it. The published cases, by their numbers, are a test of their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed, and says where"
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
