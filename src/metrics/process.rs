//! The build, and the process's resources under the names that Prometheus' own client libraries use. Without Linux
//! these are zero.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

pub(super) struct ProcessFigures {
    resident: Gauge<u64, AtomicU64>,
    open_files: Gauge<u64, AtomicU64>,
    max_files: Gauge<u64, AtomicU64>,
    cpu: Counter<f64, AtomicU64>,
    started: Gauge<f64, AtomicU64>,
}

/// Registers the build's version, under the connector's prefix.
pub(super) fn register_build(registry: &mut Registry) {
    let build = [("version", env!("CARGO_PKG_VERSION")), ("commit", env!("CONNECTOR_COMMIT"))];
    registry.register("build", "Version and commit of the running build", Info::new(build));
}

impl ProcessFigures {
    /// Registers the process's metrics, without a prefix.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let resident = Gauge::default();
        registry.register("process_resident_memory_bytes", "Resident memory size in bytes", resident.clone());
        let open_files = Gauge::default();
        registry.register("process_open_fds", "Number of open file descriptors", open_files.clone());
        let max_files = Gauge::default();
        registry.register("process_max_fds", "Maximum number of open file descriptors", max_files.clone());
        let cpu = Counter::default();
        registry.register("process_cpu_seconds", "Total user and system CPU time spent in seconds", cpu.clone());
        let started = Gauge::default();
        let help = "Start time of the process since unix epoch in seconds";
        registry.register("process_start_time_seconds", help, started.clone());
        Self { resident, open_files, max_files, cpu, started }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn show(&self) {}

    /// Reads the figures of the process. A figure that cannot be read keeps its value.
    #[cfg(target_os = "linux")]
    pub(super) fn show(&self) {
        use std::sync::atomic::Ordering;

        use procfs::WithCurrentSystemInfo as _;
        use procfs::process::{LimitValue, Process};

        let Ok(process) = Process::myself() else { return };
        if let Ok(files) = process.fd_count() {
            self.open_files.set(u64::try_from(files).unwrap_or(u64::MAX));
        }
        if let Ok(limits) = process.limits() {
            self.max_files.set(match limits.max_open_files.soft_limit {
                LimitValue::Value(files) => files,
                LimitValue::Unlimited => u64::MAX,
            });
        }
        let (Ok(stat), Ok(booted)) = (process.stat(), procfs::boot_time_secs()) else { return };
        self.resident.set(stat.rss_bytes().get());
        let seconds = |ticks: u64| as_float(ticks) / as_float(procfs::ticks_per_second());
        let cpu = seconds(stat.utime.saturating_add(stat.stime));
        self.cpu.inner().store(cpu.to_bits(), Ordering::Relaxed);
        self.started.set(as_float(booted) + seconds(stat.starttime));
    }
}

#[cfg(target_os = "linux")]
#[expect(clippy::cast_precision_loss, reason = "seconds and ticks are far below 2^53")]
fn as_float(number: u64) -> f64 {
    number as f64
}
