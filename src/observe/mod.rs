//! What operators see: logs, metrics, traces.

mod json_lines;
pub(crate) mod logs;
pub(crate) mod metrics;
mod otlp;
pub(crate) mod traces;
