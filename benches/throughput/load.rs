//! The load: wrk, on a processor of its own, which asks as fast as it is answered.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use identity_connector::http::IDENTITY_KEYS;

use crate::events::{Recorded, SPREAD};
use crate::process::{processor_time, resident};
use crate::server::STORE;

/// The processor of the load.
const PROCESSOR: &str = "1";
/// How long a run is that is not measured: connections are open then, and caches warm.
pub(crate) const WARM: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Scans {
    /// Each of an event of its own.
    New { key: String },
    /// Always the same.
    Same { key: String },
    /// Each of an event of its own, by one of so many badges, as chance has it.
    Badges { badges: u64 },
    /// Each of one of these events, as chance has it.
    Recorded(Recorded),
}

impl Scans {
    /// The arguments of the script.
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::New { key } => vec!["new".to_owned(), key.clone()],
            Self::Same { key } => vec!["same".to_owned(), key.clone()],
            Self::Badges { badges } => vec!["badges".to_owned(), badges.to_string()],
            Self::Recorded(Recorded { badges, events, scans_of_a_visit }) => {
                let numbers = [badges, events, scans_of_a_visit, &SPREAD].map(ToString::to_string);
                ["recorded".to_owned()].into_iter().chain(numbers).collect()
            }
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Answers a second.
    pub(crate) throughput: f64,
    /// How long 50, 99, 99.9 and 100 % of them took at most.
    pub(crate) latency: [Duration; 4],
    /// Processor time of the server for each, in seconds.
    pub(crate) processor: f64,
    /// Memory that it holds at the end, in bytes.
    pub(crate) resident: u64,
}

/// Asks a process for so long over so many connections.
pub(crate) fn run(address: SocketAddr, process: u32, scans: &Scans, connections: usize, time: Duration) -> Outcome {
    let before = processor_time(process);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput/scan.lua");
    let output = Command::new("taskset")
        .args(["--cpu-list", PROCESSOR, "wrk", "--threads", "1", "--latency", "--timeout", "5s"])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{}s", time.as_secs())])
        .args(["--script", script, &format!("http://{address}{IDENTITY_KEYS}"), "--", STORE])
        .args(scans.arguments())
        .output()
        .expect("wrk (Debian: wrk) and taskset (util-linux)");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<u64> = numbers
        .unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let [requests, microseconds, refused, broken, latency @ ..] = &numbers[..] else { panic!("wrk: {text}") };
    assert_eq!((*refused, *broken), (0, 0), "answers that are no 200, and connections that broke: {text}");
    let at = |place: usize| Duration::from_micros(latency[place]);
    Outcome {
        requests: *requests,
        throughput: *requests as f64 / (*microseconds as f64 / 1e6),
        latency: [at(0), at(1), at(2), at(3)],
        processor: (processor_time(process) - before).as_secs_f64() / *requests as f64,
        resident: resident(process),
    }
}
