//! What operators see: logs, metrics, traces.

pub(crate) mod logs;
pub(crate) mod metrics;
mod otlp;
pub(crate) mod traces;
