//! The load: wrk, on a processor of its own, which asks as fast as it is answered.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::process::Command;
use std::time::{Duration, Instant};

use identity_connector::http::IDENTITY_KEYS;

use crate::connector::Connector;
use crate::counts::{self, Counts};
use crate::events::{Recorded, SPREAD};
use crate::keys::Keys;
use crate::process::{processor_time, resident};
use crate::server::STORE;

/// The processor of the load, and of all else that is not measured.
pub(crate) const PROCESSOR: &str = "1";
/// How long a run is that is not measured: caches are warm then.
pub(crate) const WARM: Duration = Duration::from_secs(1);
/// How long what was begun may take to its end.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is asked whether it has.
const GLANCE: Duration = Duration::from_millis(5);

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Scans {
    /// Each of an event of its own, by one of these keys, as chance has it.
    New(Keys),
    /// Always the same.
    Same(Keys),
    /// Each of one of these events, as chance has it.
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

    /// How many events were not known before, of a run in which so many scans were answered: of those who hang up at its end, one on each
    /// connection, some may be decided and not answered.
    pub(crate) fn new_events(&self, answered: u64, connections: u64) -> RangeInclusive<u64> {
        match self {
            Self::New(_) => answered..=answered + connections,
            Self::Same(_) => 1..=1,
            Self::Recorded(_) => 0..=0,
        }
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// Answers a second.
    pub(crate) throughput: f64,
    /// How long 50, 99 and 99.9 % of them took at most.
    pub(crate) latency: [Duration; 3],
    /// Processor time of the server for each, in seconds.
    pub(crate) processor: f64,
    /// Memory that it holds at the end, in bytes.
    pub(crate) resident: u64,
}

/// Asks a connector for so long over so many connections, and waits until it has nothing more to do. Fails unless all that was asked was answered
/// with 200, and was new to it or known as it should be, and is in the log.
pub(crate) fn ask(connector: &Connector, scans: &Scans, connections: usize, time: Duration) -> Outcome {
    let before = counts::of(&connector.metrics());
    let outcome = run(connector.api, connector.process(), scans, connections, time);
    // What was begun for those who have hung up in the middle has places, which there may be too few of for the next.
    let deadline = Instant::now() + PATIENCE;
    let metrics = loop {
        let metrics = connector.metrics();
        if counts::figure(&metrics, "connector_places_taken") == 0 {
            break metrics;
        }
        assert!(Instant::now() < deadline, "what was begun for those who have hung up does not end");
        std::thread::sleep(GLANCE);
    };
    let connections = u64::try_from(connections).unwrap();
    let Counts { answers, new } = counts::of(&metrics).since(before);
    let asked = outcome.requests..=outcome.requests + connections;
    assert!(asked.contains(&answers), "{answers} answers with 200, where {asked:?} were asked for");
    let expected = scans.new_events(answers, connections);
    assert!(expected.contains(&new), "{new} new events, where there should be {expected:?}");
    outcome
}

/// Asks a process for so long over so many connections.
pub(crate) fn run(address: SocketAddr, process: u32, scans: &Scans, connections: usize, time: Duration) -> Outcome {
    let before = processor_time(process);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/throughput/scan.lua");
    let output = Command::new("taskset")
        .args(["--cpu-list", PROCESSOR, "wrk", "--threads", "1", "--latency", "--timeout", "5s"])
        .args(["--connections", &connections.to_string(), "--duration", &format!("{}s", time.as_secs())])
        .args(["--script", script, &format!("http://{address}{IDENTITY_KEYS}"), "--", STORE, &connections.to_string()])
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
    let [requests, microseconds, refused, broken, counted, latency @ ..] = &numbers[..] else { panic!("wrk: {text}") };
    assert_eq!((*refused, *broken), (0, 0), "answers that are no 200, and connections that broke: {text}");
    assert!(*requests > 0, "nothing was answered: {text}");
    assert_eq!(counted, requests, "how long each took, and no other: {text}");
    let at = |place: usize| Duration::from_micros(latency[place]);
    Outcome {
        requests: *requests,
        throughput: *requests as f64 / (*microseconds as f64 / 1e6),
        latency: [at(0), at(1), at(2)],
        processor: (processor_time(process) - before).as_secs_f64() / *requests as f64,
        resident: resident(process),
    }
}
