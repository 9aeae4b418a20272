//! The load: wrk on its own processor, with each connection sending the next request as soon as it has the answer.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::Command;
use std::time::{Duration, Instant};

use identity_connector::testing::gate_api::IDENTITY_KEYS;

use crate::connector::Connector;
use crate::counts::{self, Counts};
use crate::events::{Recorded, SPREAD};
use crate::keys::Keys;
use crate::process::{processor_time, resident};
use crate::server::STORE;

/// The processor of the load and of everything else that is not measured.
pub(crate) const PROCESSOR: &str = "1";
/// The length of the warm-up run.
pub(crate) const WARM: Duration = Duration::from_secs(1);
/// The maximum time for running scans to finish after a run.
const PATIENCE: Duration = Duration::from_secs(10);
/// The interval for checking whether scans have finished.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The scans of a run.
#[derive(Clone, Debug)]
pub(crate) enum Scans {
    /// New events, with keys chosen at random.
    New(Keys),
    /// Always the same scan.
    Same(Keys),
    /// Recorded events, chosen at random.
    Recorded(Recorded),
}

impl Scans {
    /// The arguments of the script, from the keys on.
    fn arguments(&self) -> Vec<String> {
        let (keys, way, numbers) = match self {
            Self::New(keys) => (keys, "new", vec![]),
            Self::Same(keys) => (keys, "same", vec![]),
            Self::Recorded(Recorded { keys, events, scans_of_a_visit }) => {
                (keys, "recorded", vec![events, scans_of_a_visit, &SPREAD])
            }
        };
        let numbers = numbers.into_iter().map(ToString::to_string);
        keys.arguments().into_iter().chain([way.to_owned()]).chain(numbers).collect()
    }

    /// The expected number of new events in a run with this many answers. At the end of a run, wrk closes its
    /// connections; the last scan of each may be decided without being answered.
    pub(crate) fn new_events(&self, answered: u64, connections: u64) -> RangeInclusive<u64> {
        match self {
            Self::New(_) => answered..=answered + connections,
            Self::Same(_) => 1..=1,
            Self::Recorded(_) => 0..=0,
        }
    }
}

/// The results of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Answers a second.
    pub(crate) throughput: f64,
    /// The 50th, 99th and 99.9th percentile of latency.
    pub(crate) latency: [Duration; 3],
    /// Processor time of the server per request, in seconds.
    pub(crate) processor: f64,
    /// Resident memory of the server at the end, in bytes.
    pub(crate) resident: u64,
}

/// Runs the load on a connector, and waits until it is idle. Panics unless every answer was 200, the number of new
/// events is as expected, and no log line was dropped.
pub(crate) fn ask(connector: &Connector, scans: &Scans, connections: usize, time: Duration) -> Outcome {
    let before = counts::read(&connector.metrics());
    let outcome = run(connector.api, connector.process(), scans, connections, time);
    // Scans of closed connections still hold permits, which the next run might lack.
    let deadline = Instant::now() + PATIENCE;
    let metrics = loop {
        let metrics = connector.metrics();
        if counts::figure(&metrics, "connector_places_taken") == 0 {
            break metrics;
        }
        assert!(Instant::now() < deadline, "scans of closed connections do not finish");
        std::thread::sleep(POLL_INTERVAL);
    };
    let connections = u64::try_from(connections).unwrap();
    let Counts { answers, new } = counts::read(&metrics).since(before);
    let asked = outcome.requests..=outcome.requests + connections;
    assert!(asked.contains(&answers), "{answers} answers with 200 to {asked:?} requests");
    let expected = scans.new_events(answers, connections);
    assert!(expected.contains(&new), "{new} new events, expected {expected:?}");
    outcome
}

/// Runs the load on the server in this process.
pub(crate) fn run(address: SocketAddr, process: u32, scans: &Scans, connections: usize, time: Duration) -> Outcome {
    let before = processor_time(process);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput/scan.lua");
    let output = Command::new("taskset")
        .args(["--cpu-list", PROCESSOR, "wrk", "--threads", "1", "--latency", "--timeout", "5s"])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{}s", time.as_secs())])
        .args(["--script", script, &format!("http://{address}{IDENTITY_KEYS}"), "--", STORE, &connections.to_string()])
        .args(scans.arguments())
        .output()
        .expect("wrk (Debian: wrk) and taskset (util-linux) are installed");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let numbers: Vec<u64> = numbers
        .unwrap_or_else(|| panic!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let [requests, microseconds, refused, broken, counted, latency @ ..] = &numbers[..] else { panic!("wrk: {text}") };
    assert_eq!((*refused, *broken), (0, 0), "answers other than 200, and failed connections: {text}");
    assert!(*requests > 0, "no answers: {text}");
    assert_eq!(counted, requests, "one latency for each request: {text}");
    let at = |index: usize| Duration::from_micros(latency[index]);
    Outcome {
        requests: *requests,
        throughput: *requests as f64 / (*microseconds as f64 / 1e6),
        latency: [at(0), at(1), at(2)],
        processor: (processor_time(process) - before).as_secs_f64() / *requests as f64,
        resident: resident(process),
    }
}
