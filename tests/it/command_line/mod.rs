//! The binary as a separate process: subcommands, exit codes, configuration, start and stop, log.

pub(crate) mod administration;
pub(crate) mod bad_rows;
pub(crate) mod callers;
pub(crate) mod commerce_configuration;
pub(crate) mod commerce_log;
pub(crate) mod configuration;
pub(crate) mod demo;
pub(crate) mod directory_file;
pub(crate) mod durability;
pub(crate) mod file_settings;
pub(crate) mod import;
pub(crate) mod life_cycle;
pub(crate) mod log;
pub(crate) mod open_files;
pub(crate) mod provider_configuration;
pub(crate) mod reload;
pub(crate) mod secure_callers;
pub(crate) mod slow_disk;
pub(crate) mod sqlite_file;
pub(crate) mod starting;
pub(crate) mod tables;
pub(crate) mod tls;
pub(crate) mod tls_configuration;
pub(crate) mod tools;
pub(crate) mod traces;
