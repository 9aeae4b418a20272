//! Writes the measured part of `docs/performance.md`, between two marks, and its diagram.

use std::time::Duration;

use identity_connector::clock::Clock;

use crate::growth::{self, Growth};
use crate::pairs::{self, CONNECTIONS, Level};
use crate::postgres::Postgres;
use crate::{allocations, machine, plot, report, targets};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md");
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.svg");
const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// The length of a run, the number of pairs, and the numbers of events.
pub(crate) struct Extent {
    pub(crate) time: Duration,
    pub(crate) pairs: u64,
    pub(crate) sizes: Vec<u64>,
}

/// Measures everything, and writes page and diagram. Panics if something cannot be measured.
pub(crate) fn write(extent: &Extent) {
    assert!(machine::commit().is_some(), "the page names the commit: run it in a git checkout");
    assert_eq!(Postgres::missing(), None, "the page includes PostgreSQL");
    assert!(allocations::can_be_counted(), "the page includes allocations: install valgrind (Debian: valgrind)");
    let postgres = Some(&Postgres::start());
    let page = std::fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the mark at the start of the measured part");
    let (_, after) = rest.split_once(END).expect("the mark at its end");
    let began = std::time::Instant::now();
    let machine = machine::describe();
    let levels = pairs::measure(&CONNECTIONS, extent.pairs, extent.time, postgres);
    let allocations = allocations::table(postgres);
    let growth = growth::measure(&extent.sizes, extent.time);
    let took = began.elapsed().as_secs().div_ceil(60);
    let date = Clock::System.now().format("%-d %B %Y");
    let head = format!(
        "{date}; {machine}. {} pairs of {} s for each figure; all of it took {took} minutes.",
        extent.pairs,
        extent.time.as_secs()
    );
    let measured = text(&head, &levels, &allocations, &growth);
    std::fs::write(PAGE, format!("{before}{BEGIN}\n\n{measured}\n{END}{after}")).unwrap();
    std::fs::write(PICTURE, plot::draw(&levels)).unwrap();
    println!("{measured}");
}

fn text(head: &str, levels: &[Level], allocations: &str, growth: &Growth) -> String {
    let mut text = format!("{head}\n\n### Targets\n\n{}\n", targets::table(levels, growth));
    text += "### As a share of the floor\n\n![Answers a second of the floor and of the connector, by number of connections](performance.svg)\n\n";
    for level in levels {
        text += &format!("{}\n", report::headings(level.connections));
        for (kind, pairs) in &level.rows {
            text += &format!("{}\n", report::row(kind.name(), pairs));
        }
        text += &format!("{}\n\n", report::floor_row(level));
    }
    text + &format!("{allocations}\n### As it grows\n\n{}", report::growth(growth))
}
