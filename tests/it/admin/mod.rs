//! The management port: changes, lists, erasure, OpenAPI document, metrics, alert rules.

pub(crate) mod administration;
pub(crate) mod alert_rules;
pub(crate) mod changes;
pub(crate) mod erasure;
pub(crate) mod exposition;
pub(crate) mod lists;
pub(crate) mod management;
pub(crate) mod metrics;
pub(crate) mod openapi;
pub(crate) mod removed_devices;
