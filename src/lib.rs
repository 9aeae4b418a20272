//! The retailer's Identity Connector for Just Walk Out gates.

pub mod domain;

pub mod clock;

pub mod digest;
