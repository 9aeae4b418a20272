//! Code shared by the test binaries: the whole service inside the test process, the binary as a child process, and
//! servers that it uses.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    clippy::allow_attributes,
    reason = "each test binary uses a different part of this module"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails where it panics"
)]

mod administration;
pub(crate) mod backend;
pub(crate) mod carts;
pub(crate) mod certificates;
pub(crate) mod checks;
pub(crate) mod collector;
pub(crate) mod exposition;
mod installed;
pub(crate) mod keys;
pub(crate) mod npm;
mod postgres;
mod process;
pub(crate) mod provider;
pub(crate) mod random;
mod redis;
mod scans;
pub(crate) mod secrets;
mod server;
pub(crate) mod shopper;
mod signals;
mod slow_disk;
pub(crate) mod trials;

pub(crate) use {
    administration::{LISTS, segment},
    checks::wait_until,
    postgres::{Postgres, Transaction, free_port},
    process::{Ended, Process},
    redis::Redis,
    scans::{IDENTITY_KEYS, scan, scan_with_key},
    server::{
        Answer, HASH_KEY, MANAGEMENT_TOKEN, Server, borrowed, client, client_without_credentials, environment,
        file_with, sessions,
    },
    slow_disk::SlowDisk,
};
