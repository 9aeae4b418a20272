//! The binary as a separate process: subcommands, exit codes, configuration, start and stop, log.

pub(crate) mod callers;
pub(crate) mod configuration;
pub(crate) mod demo;
pub(crate) mod durability;
pub(crate) mod import;
pub(crate) mod life_cycle;
pub(crate) mod log;
pub(crate) mod open_files;
pub(crate) mod reload;
pub(crate) mod secure_callers;
pub(crate) mod shopper_api;
pub(crate) mod slow_disk;
pub(crate) mod sqlite_file;
pub(crate) mod starting;
pub(crate) mod tls;
pub(crate) mod tools;
pub(crate) mod traces;
