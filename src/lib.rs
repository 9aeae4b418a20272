//! The retailer's Identity Connector for Just Walk Out gates.

pub mod domain;

pub mod clock;

pub mod digest;

pub mod directory;

pub mod ledger;

pub mod rate_limit;

pub mod config;

pub mod telemetry;

pub mod metrics;

pub mod connector;
