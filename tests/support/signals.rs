use std::process::{Command, Stdio};

/// Processes as `ps` lists them: whose child each is, and whether it has ended and only its parent has not looked yet.
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

/// The processes that a process has made.
pub(super) fn children(parent: u32) -> Vec<u32> {
    processes().into_iter().filter(|(_, of, _)| *of == parent).map(|(process, ..)| process).collect()
}

pub(super) fn is_running(process: u32) -> bool {
    processes().into_iter().any(|(id, _, has_ended)| id == process && !has_ended)
}

/// Sends a signal by its name, such as `KILL`. Those that have ended meanwhile do not matter.
pub(super) fn signal(name: &str, processes: &[u32]) {
    let processes = processes.iter().map(u32::to_string);
    Command::new("kill").arg(format!("-{name}")).args(processes).stderr(Stdio::null()).status().unwrap();
}
