//! What the figures were measured on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// How often the disk is asked.
const SYNCS: usize = 200;

/// Processor, system and commit.
pub(crate) fn describe() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("unknown processor");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().unwrap();
    let commit = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{cores} processors, {model}; Linux {}; commit {commit}", kernel.trim())
}

/// How long the disk takes to keep 4 KiB: half of the time, and at worst.
pub(crate) fn sync_time(folder: &Path) -> String {
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
