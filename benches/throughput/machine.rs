//! Description of the machine that was used.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{load, server};

/// The number of disk writes that are measured.
const SYNCS: usize = 200;

/// Processors, operating system, commit, and the disks of the databases.
pub(crate) fn describe() -> String {
    let cpu = cpu();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let processors = cpu.lines().filter(|line| line.starts_with("processor\t")).count();
    let commit = commit().unwrap_or_else(|| "unknown".to_owned());
    format!(
        "- {processors} processors, {}; Linux {}; commit {commit}\n\
         - fdatasync of 4 KiB on SQLite's disk: {}\n- fdatasync of 4 KiB on PostgreSQL's disk: {}",
        model(&cpu),
        kernel.trim(),
        sync_time(server::folder()),
        sync_time(&std::env::temp_dir())
    )
}

/// The model of the processor.
pub(crate) fn processor() -> String {
    model(&cpu()).to_owned()
}

fn cpu() -> String {
    std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()
}

fn model(cpu: &str) -> &str {
    cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor")
}

/// The commit that is measured, if this is a Git checkout.
pub(crate) fn commit() -> Option<String> {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Moves this process and its children to the processor of the load, away from what is measured.
pub(crate) fn use_load_processor() {
    let mut taskset = Command::new("taskset");
    taskset.args(["--cpu-list", "--pid", load::PROCESSOR, &std::process::id().to_string()]).stdout(Stdio::null());
    assert!(taskset.status().expect("taskset (util-linux) is installed").success(), "taskset failed");
}

/// The time to write 4 KiB to the disk: median and 99th percentile.
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
