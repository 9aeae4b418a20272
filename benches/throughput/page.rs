//! Writes the measured parts of `docs/performance.md`, each between two marks, and its picture.

use std::time::Duration;

use identity_connector::clock::Clock;

use crate::growth::{self, Growth};
use crate::programs::Programs;
use crate::rounds::{self, CONNECTIONS, Level};
use crate::server::Kind;
use crate::targets::{self, Figures};
use crate::{machine, plot, report};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.svg");
/// The part at the head of the page: throughput and latency by storage.
const SUMMARY: &str = "summary";
/// The part with all tables.
const MEASURED: &str = "measured";

/// The length of a run, the number of rounds, and the numbers of events.
pub(crate) struct Extent {
    pub(crate) time: Duration,
    pub(crate) rounds: u64,
    pub(crate) sizes: Vec<u64>,
}

/// Measures everything, and writes page and picture. Fails if a part cannot be measured.
pub(crate) fn write(extent: &Extent, scaling: f64, programs: &Programs) {
    assert!(machine::commit().is_some(), "the page names the commit: run it in a git checkout");
    let missing = [Kind::Postgres, Kind::Peer].map(|kind| programs.missing(kind));
    assert_eq!(missing, [None; 2], "the page includes PostgreSQL and the peer");
    let page = std::fs::read_to_string(PAGE).unwrap();
    let began = std::time::Instant::now();
    let machine = machine::describe();
    let levels = rounds::measure(&CONNECTIONS, extent.rounds, extent.time, programs);
    let targets = targets::table(&levels, programs, Figures::measure(scaling));
    let growth = growth::measure(&extent.sizes, extent.time);
    let took = began.elapsed().as_secs().div_ceil(60);
    let page = replace(&page, SUMMARY, &report::summary(&levels[0], &machine::processor()));
    let date = Clock::System.now().format("%-d %B %Y");
    let head = format!(
        "{machine}\n- {date}: {} rounds of runs of {} s for each figure; the whole measurement took {took} minutes",
        extent.rounds,
        extent.time.as_secs()
    );
    let measured = text(&head, &targets, &levels, &growth);
    std::fs::write(PAGE, replace(&page, MEASURED, &format!("\n{measured}\n"))).unwrap();
    std::fs::write(PICTURE, plot::draw(&levels)).unwrap();
    println!("{measured}");
}

/// The page with this text between the marks of a part.
fn replace(page: &str, part: &str, text: &str) -> String {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- {part}: {edge} -->"));
    let (before, rest) = page.split_once(&begin).expect("the page has the begin mark of the part");
    let (_, after) = rest.split_once(&end).expect("the page has the end mark of the part");
    format!("{before}{begin}\n{text}{end}{after}")
}

fn text(head: &str, targets: &str, levels: &[Level], growth: &Growth) -> String {
    let mut text = format!("{head}\n\n### Targets\n\n{targets}\n");
    text += "### Throughput and latency\n\n![Scans a second of the baseline and of the connector, by number of connections](performance.svg)\n\n";
    levels.iter().for_each(|level| text += &format!("{}\n", report::level(level)));
    text + &format!("### With many events and keys\n\n{}", report::growth(growth))
}
