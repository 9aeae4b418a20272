//! What the figures were measured on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{load, server};

/// How often the disk is asked.
const SYNCS: usize = 200;

/// Processors, system, commit, and the disks under the databases.
pub(crate) fn describe() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = cpu.lines().filter(|line| line.starts_with("processor\t")).count();
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "{processors} processors, {model}; Linux {}; commit {commit}; fdatasync of 4 KiB {} where SQLite stands, {} where PostgreSQL does",
        kernel.trim(),
        sync_time(server::folder()),
        sync_time(&std::env::temp_dir())
    )
}

/// What is measured, where it is a checkout of git's.
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Has this process, and all that it starts, keep off the processor of what is measured.
pub(crate) fn step_aside() {
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "--pid", load::PROCESSOR, &std::process::id().to_string()]).stdout(Stdio::null());
    assert!(taskset.status().expect("taskset (util-linux)").success(), "taskset");
}

/// How long the disk takes to keep 4 KiB: half of the time, and nearly always.
fn sync_time(folder: &Path) -> String {
    let mut file = tempfile::tempfile_in(folder).unwrap();
    let mut took: Vec<Duration> = (0..SYNCS).map(|_| sync(&mut file)).collect();
    took.sort_unstable();
    format!("{:.2?} (median), {:.2?} (99 %)", took[SYNCS / 2], took[SYNCS * 99 / 100])
}

fn sync(file: &mut File) -> Duration {
    file.write_all(&[0; 4096]).unwrap();
    let began = Instant::now();
    file.sync_data().unwrap();
    began.elapsed()
}
