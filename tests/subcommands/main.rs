//! Tests that run the binary as a separate process: subcommands, exit codes, configuration, start and stop, log.

#![expect(clippy::unwrap_used, clippy::panic, clippy::arithmetic_side_effects, reason = "a test fails where it panics")]

#[path = "../support/mod.rs"]
mod support;

mod administration;
mod bad_rows;
mod callers;
mod commerce_configuration;
mod commerce_log;
mod configuration;
mod demo;
mod directory_file;
mod durability;
mod file_settings;
mod import;
mod life_cycle;
mod log;
mod open_files;
mod provider_configuration;
mod reload;
mod secure_callers;
mod slow_disk;
mod sqlite_file;
mod starting;
mod tables;
mod tls;
mod tls_configuration;
mod tools;
mod traces;
