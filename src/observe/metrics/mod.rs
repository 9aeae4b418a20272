//! Metrics in the Prometheus text format. Each running connector has its own; only the count of dropped log lines
//! belongs to the process.
//!
//! A metric is a line of a table, and its doc comment is the help text. [`Metrics`] is what requests count,
//! [`ConnectionMetrics`] what connections count. Other parts have their own tables, and add them to the registry that
//! they are given when the connector is built.
//!
//! `docs/metrics.md` lists all metrics, and `tests/it/admin/metrics.rs` checks that.

mod connections;
mod format;
mod process;
mod requests;
pub(crate) mod table;

use std::fmt;

use prometheus_client::encoding::text;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) use connections::{ConnectionMetrics, PortMetrics};
pub(crate) use format::Format;
pub use requests::Metrics;
pub(crate) use table::{metrics, readings};

use process::ProcessMetrics;

/// All metrics that are exposed.
#[derive(Debug)]
pub(crate) struct Exposition {
    all: Registry,
    process: ProcessMetrics,
}

impl Exposition {
    /// Exposes the build and the process.
    #[must_use]
    pub(crate) fn new() -> Self {
        let (mut all, process) = (Registry::default(), ProcessMetrics::default());
        process.register(&mut all);
        let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", env!("CONNECTOR_COMMIT"))];
        let mut exposition = Self { all, process };
        exposition.registry().register("build", "Version and commit of the running build", Info::new(build));
        exposition
    }

    /// A registry whose metrics are exposed with the prefix `connector_`.
    pub(crate) fn registry(&mut self) -> &mut Registry {
        self.all.sub_registry_with_prefix("connector")
    }

    /// Writes all metrics.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub(crate) fn write(&self, format: Format) -> Result<String, fmt::Error> {
        self.process.read();
        let mut text = String::new();
        text::encode(&mut text, &self.all)?;
        format.convert(&text)
    }
}

impl Default for Exposition {
    fn default() -> Self {
        Self::new()
    }
}
