//! New events verified in this process, in memory and without a network: by two threads, and by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use identity_connector::testing::directory::{Directory, file};
use identity_connector::testing::domain::decision::Decision;
use identity_connector::testing::domain::scan::Scan;
use identity_connector::testing::gate_api::read_scan;
use identity_connector::testing::ledger::{Ledger, Limits, MemoryLedger};
use identity_connector::testing::observe::metrics::Metrics;
use identity_connector::testing::verify::{Connector, Verdict};
use rand::random_range;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::fixture;
use crate::keys::Keys;
use crate::report::Spread;
use crate::server::SHOPPERS;

const ROUNDS: u64 = 5;
/// The number of events of a thread: about a second.
const EVENTS: usize = 250_000;
const PATIENCE: Duration = Duration::from_secs(3600);

/// The ratio of the events a second of two threads to those of one: the median of several rounds. Needs two processors.
pub(crate) fn two_threads_to_one() -> f64 {
    let keys = Keys::codes(SHOPPERS);
    let folder = TempDir::new().unwrap();
    let content = std::fs::read_to_string(keys.directory_file(folder.path())).unwrap();
    let loaded = file::parse(&content, "the benchmark", &fixture::hash_key(), false).unwrap();
    let directory = Arc::new(Directory::in_memory(fixture::hash_key()));
    runtime().block_on(directory.apply(loaded.changes, fixture::now())).unwrap();
    let scan = |event| {
        let body = fixture::body(event, &keys.key(random_range(0..SHOPPERS)), "OPTICAL");
        read_scan(body.as_bytes()).unwrap()
    };
    let scans: Vec<Scan> = (0_u64..).take(2 * EVENTS).map(scan).collect();
    let one = || time(&directory, &scans[..EVENTS]);
    let two = || time(&directory, &scans);
    // Alternate the order, because processors may slow down under load.
    let ratio = |round: u64| if round.is_multiple_of(2) { 2.0 * one() / two() } else { 2.0 / (two() / one()) };
    Spread::from_figures((0..ROUNDS).map(ratio).collect()).median
}

/// The seconds in which threads verify these events, [`EVENTS`] each, with an empty ledger.
fn time(directory: &Arc<Directory>, scans: &[Scan]) -> f64 {
    let limits = Limits { capacity: scans.len(), ..fixture::limits() };
    let ledger = Arc::new(Ledger::Memory(MemoryLedger::new(limits)));
    let connector = Arc::new(Connector { ledger, ..fixture::connector(directory, Metrics::new()) });
    let began = Instant::now();
    std::thread::scope(|scope| {
        for scans in scans.chunks(EVENTS) {
            scope.spawn(|| runtime().block_on(verify(&connector, scans)));
        }
    });
    began.elapsed().as_secs_f64()
}

async fn verify(connector: &Arc<Connector>, scans: &[Scan]) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for scan in scans.iter().cloned() {
        let fingerprint = connector.fingerprint(&scan);
        let verdict = connector.verify(scan, fingerprint, fixture::now(), deadline, ()).await.unwrap();
        let Verdict::Decided { record, replay: false } = verdict else { panic!("{verdict:?}") };
        assert!(matches!(record.decision, Decision::Accepted(_)), "{record:?}");
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}
