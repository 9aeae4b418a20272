//! Metrics in the Prometheus text format. Each running connector has its own; only the count of dropped log lines
//! belongs to the process.
//!
//! A metric is a line of a table, and its doc comment is the help text. [`Metrics`] has the metrics of
//! requests, [`ConnectionMetrics`] those of connections. Other parts have their own tables, and add them to the registry
//! that they are given when the connector is built.
//!
//! `docs/metrics.md` lists all metrics, and `tests/it/admin/metrics.rs` checks that.

mod connections;
mod requests;
pub(crate) mod table;

use std::fmt::{self, Write as _};
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(crate) use connections::{ConnectionMetrics, PortMetrics};
pub use requests::Metrics;
pub(crate) use table::{metrics, readings};

/// All metrics that are exposed.
#[derive(Debug)]
pub(crate) struct Exposition {
    all: Registry,
    process: ProcessMetrics,
}

impl Exposition {
    /// Exposes the build and the process.
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

metrics! {
    /// The process's resources, under the names that Prometheus' own client libraries use. Without Linux these are
    /// zero.
    #[derive(Debug)]
    struct ProcessMetrics {
        /// Resident memory size in bytes.
        process_resident_memory_bytes: Gauge<u64, AtomicU64>,
        /// Number of open file descriptors.
        process_open_fds: Gauge<u64, AtomicU64>,
        /// Maximum number of open file descriptors.
        process_max_fds: Gauge<u64, AtomicU64>,
        /// Total user and system CPU time spent in seconds.
        process_cpu_seconds: Counter<f64, AtomicU64>,
        /// Start time of the process since unix epoch in seconds.
        process_start_time_seconds: Gauge<f64, AtomicU64>,
    }
}

impl ProcessMetrics {
    #[cfg(not(target_os = "linux"))]
    fn read(&self) {}

    /// Reads the figures of the process. A figure that cannot be read keeps its value.
    #[cfg(target_os = "linux")]
    fn read(&self) {
        use std::sync::atomic::Ordering;

        use procfs::WithCurrentSystemInfo as _;
        use procfs::process::{LimitValue, Process};

        let Ok(process) = Process::myself() else { return };
        if let Ok(files) = process.fd_count() {
            self.process_open_fds.set(u64::try_from(files).unwrap_or(u64::MAX));
        }
        if let Ok(limits) = process.limits() {
            self.process_max_fds.set(match limits.max_open_files.soft_limit {
                LimitValue::Value(files) => files,
                LimitValue::Unlimited => u64::MAX,
            });
        }
        let (Ok(stat), Ok(booted)) = (process.stat(), procfs::boot_time_secs()) else { return };
        self.process_resident_memory_bytes.set(stat.rss_bytes().get());
        let seconds = |ticks: u64| as_float(ticks) / as_float(procfs::ticks_per_second());
        let cpu = seconds(stat.utime.saturating_add(stat.stime));
        self.process_cpu_seconds.inner().store(cpu.to_bits(), Ordering::Relaxed);
        self.process_start_time_seconds.set(as_float(booted) + seconds(stat.starttime));
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "seconds and ticks are far below 2^53")]
fn as_float(number: u64) -> f64 {
    number as f64
}

/// The end marker of OpenMetrics.
const END: &str = "# EOF\n";

/// A text format of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    #[default]
    OpenMetrics,
    /// The Prometheus text format 0.0.4, for scrapers that know no other.
    Plain,
}

impl Format {
    /// The media type with its version.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// Converts the registry's text to this format.
    ///
    /// # Errors
    /// Never in practice: the registry writes families alone, and writing to a string does not fail.
    pub(crate) fn convert(self, registry: &str) -> Result<String, fmt::Error> {
        let mut text = String::with_capacity(registry.len());
        let families = registry.strip_suffix(END).unwrap_or(registry);
        // A line break in a label value is escaped, so it cannot look like a new family.
        for family in families.split("\n# HELP ") {
            self.write(family.trim_start_matches("# HELP "), &mut text)?;
        }
        if self == Self::OpenMetrics {
            text.push_str(END);
        }
        Ok(text)
    }

    /// Writes a family, given as `name help`, `# TYPE name kind` and samples.
    fn write(self, family: &str, text: &mut String) -> fmt::Result {
        let (help, rest) = family.split_once("\n# TYPE ").ok_or(fmt::Error)?;
        // A family without values has no sample.
        let (described, samples) = rest.split_once('\n').unwrap_or((rest, ""));
        let (name, kind) = described.split_once(' ').ok_or(fmt::Error)?;
        let help = help.strip_prefix(name).ok_or(fmt::Error)?;
        // OpenMetrics describes the family's name, 0.0.4 the samples' name.
        let (suffix, plain_kind) = match (self, kind) {
            (Self::Plain, "counter") => ("_total", kind),
            (Self::Plain, "info") => ("_info", "gauge"),
            _ => ("", kind),
        };
        writeln!(text, "# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {plain_kind}")?;
        // OpenMetrics forbids the sum of a histogram with negative buckets, and a count without a sum.
        let has_sum = !(kind == "histogram" && samples.contains("le=\"-"));
        let is_summary = |sample: &str| {
            let rest = sample.strip_prefix(name).unwrap_or_default();
            rest.starts_with("_sum") || rest.starts_with("_count")
        };
        for sample in samples.lines().filter(|sample| has_sum || !is_summary(sample)) {
            writeln!(text, "{sample}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_samples_is_kept() {
        let registry = "# HELP a An A.\n# TYPE a counter\n# HELP b A B.\n# TYPE b gauge\nb 1\n# EOF\n";
        assert_eq!(Format::OpenMetrics.convert(registry).as_deref(), Ok(registry));
        let plain = "# HELP a_total An A.\n# TYPE a_total counter\n# HELP b A B.\n# TYPE b gauge\nb 1\n";
        assert_eq!(Format::Plain.convert(registry).as_deref(), Ok(plain));
    }
}
