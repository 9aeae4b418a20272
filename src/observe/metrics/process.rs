//! The process's resources, under the names that Prometheus' own client libraries use. Without Linux these are zero.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::observe::metrics::metrics;

metrics! {
    #[derive(Debug)]
    pub(crate) struct ProcessMetrics {
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
    pub(crate) fn read(&self) {}

    /// Reads the figures of the process. A figure that cannot be read keeps its value.
    #[cfg(target_os = "linux")]
    pub(crate) fn read(&self) {
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
