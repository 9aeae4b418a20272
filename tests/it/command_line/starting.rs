//! A database server that accepts connections and never answers. `serve`, `import` and `export` log that they wait,
//! stop immediately on a signal, and give up after 30 s.

use crate::trials::{apply, test};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Ended, HASH_KEY, Process};

/// Far below the 30 s after which a start gives up, with a wide margin for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(5);

const COMMANDS: [&[&str]; 3] = [&["serve"], &["import", "config/default.toml", "--format", "jsonl"], &["export"]];

/// A listener whose connections stay in the accept queue: it never sends a byte. Also returns its address.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

fn starting(address: &str) -> Vec<Process> {
    let url = format!("postgres://connector:hush@{address}/connector");
    let settings = [("storage.url", url.as_str()), ("security.hash_key", HASH_KEY)];
    COMMANDS.iter().map(|arguments| Process::run(arguments, &settings)).collect()
}

#[apply(test)]
fn a_start_gives_up_when_the_database_does_not_answer_for_30_s() {
    let (_silent, address) = silent_server();
    let began = Instant::now();
    for (process, command) in starting(&address).into_iter().zip(COMMANDS) {
        let ended = process.wait_for_end();
        let log = &ended.stderr;
        assert_eq!(ended.code, Some(1), "{command:?}: {log}");
        assert!(began.elapsed() > Duration::from_secs(29), "{command:?} after {:?}", began.elapsed());
        let waits: Vec<_> = log.lines().filter(|line| line.contains("the database does not answer yet")).collect();
        assert!((6..=12).contains(&waits.len()), "{command:?}: {log}");
        for part in [&address, "connecting", "no answer within 10 s"] {
            assert!(waits.last().unwrap().contains(part), "{part}: {waits:#?}");
        }
        let error =
            format!("storage.url: postgres://{address}/connector: no answer within 30 s, at this step: connecting");
        assert!(log.lines().last().unwrap().contains(&error), "{command:?}: {log}");
        assert!(!log.contains("hush"), "{log}");
    }
    // The commands ran at the same time. The deadline is for the whole start, not for each step.
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
}

/// `serve` exits with 0, since it stopped as asked. `import` and `export` exit with 1, since their work is not done.
#[apply(test)]
fn a_signal_stops_a_start_immediately() {
    let (_silent, address) = silent_server();
    let processes = ["TERM", "INT"].map(|signal| (signal, starting(&address)));
    for (signal, processes) in processes {
        for (process, command) in processes.into_iter().zip(COMMANDS) {
            process.wait_for_log("the database does not answer yet");
            let began = Instant::now();
            process.signal(signal);
            let ended = process.wait_for_end();
            assert!(began.elapsed() < AT_ONCE, "{command:?} took {:?} to stop: {ended:?}", began.elapsed());
            assert_eq!(ended.code, Some(i32::from(command[0] != "serve")), "{command:?}: {ended:?}");
            assert!(ended.stderr.lines().last().unwrap().contains("stopped before"), "{command:?}: {ended:?}");
        }
    }
}

/// The pipe is full and blocks the thread that would handle the first signal.
#[apply(test)]
fn second_signal_stops_an_export_with_unread_output() {
    let folder = tempfile::TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("c.db").display());
    let settings = [("storage.url", url.as_str()), ("security.hash_key", HASH_KEY)];
    let rows: String = (0..4000).map(|number| format!("{{\"store\":{{\"id\":\"S{number}\"}}}}\n")).collect();
    let file = folder.path().join("a.jsonl");
    std::fs::write(&file, rows).unwrap();
    let imported = Ended::run(&["import", file.to_str().unwrap(), "--create"], &settings);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    let mut process = Process::run_with_unread_output(&["export"], &settings);
    let began = Instant::now();
    while !process.has_ended() && began.elapsed() < AT_ONCE {
        process.signal("TERM"); // signals that arrive together may count as one
        std::thread::sleep(Duration::from_millis(20)); // poll until the deadline
    }
    assert!(process.has_ended(), "the export still runs");
    assert_eq!(process.wait_for_end().code, Some(1));
}
