//! Finds processes and sends them signals, with the programs `ps` and `kill`.

use std::process::{Command, Stdio};

/// All processes: id, parent's id, and whether it is a zombie.
fn processes() -> Vec<(u32, u32, bool)> {
    let output = Command::new("ps").args(["-A", "-o", "pid=,ppid=,stat="]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |line: &str| {
        let mut columns = line.split_whitespace();
        let mut number = || columns.next()?.parse().ok();
        Some((number()?, number()?, columns.next()?.starts_with('Z')))
    };
    text.lines().filter_map(row).collect()
}

/// The children of a process.
pub(super) fn children(parent: u32) -> Vec<u32> {
    processes().into_iter().filter(|(_, of, _)| *of == parent).map(|(process, ..)| process).collect()
}

pub(super) fn is_running(process: u32) -> bool {
    processes().into_iter().any(|(id, _, has_ended)| id == process && !has_ended)
}

/// Sends a signal by its name, such as `KILL`. Processes that have ended are ignored.
pub(super) fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(u32::to_string);
    Command::new("kill").arg(format!("-{name}")).args(processes).stderr(Stdio::null()).status().unwrap();
}
