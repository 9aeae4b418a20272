//! The load: wrk, on a processor of its own, which asks as fast as it is answered.

use std::process::Command;
use std::time::Duration;

use identity_connector::http::IDENTITY_KEYS;

use crate::server::{STORE, Server, key};

/// The processor of the load.
const PROCESSOR: &str = "1";

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    /// Answers a second.
    pub(crate) throughput: f64,
    /// How long 50, 99, 99.9 and 100 % of them took at most.
    pub(crate) latency: [Duration; 4],
    /// Processor time of the server for each, in seconds.
    pub(crate) processor: f64,
    /// Memory that it holds at the end, in bytes.
    pub(crate) resident: u64,
}

/// Asks for so long over so many connections. Fails unless every answer is a 200.
pub(crate) fn run(server: &Server, is_new: bool, connections: usize, time: Duration) -> Outcome {
    let before = server.processor_time();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput/scan.lua");
    let output = Command::new("taskset")
        .args(["--cpu-list", PROCESSOR, "wrk", "--threads", "1", "--latency", "--timeout", "5s"])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{}s", time.as_secs())])
        .args(["--script", script, &format!("http://{}{IDENTITY_KEYS}", server.address), "--"])
        .args([key().as_str(), STORE, if is_new { "new" } else { "same" }])
        .output()
        .expect("wrk (Debian: wrk) and taskset (util-linux)");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<f64> = numbers
        .unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let [requests, microseconds, refused, broken, latency @ ..] = &numbers[..] else { panic!("wrk: {text}") };
    assert_eq!((*refused, *broken), (0.0, 0.0), "answers that are no 200, and connections that broke: {text}");
    let at = |place: usize| Duration::from_secs_f64(latency[place] / 1e6);
    Outcome {
        throughput: requests / (microseconds / 1e6),
        latency: [at(0), at(1), at(2), at(3)],
        processor: (server.processor_time() - before).as_secs_f64() / requests,
        resident: server.resident(),
    }
}
