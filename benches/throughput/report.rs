//! The results as tables.

use std::time::Duration;

use crate::growth::{Growth, Row, number};
use crate::load::Outcome;
use crate::rounds::Level;
use crate::server::Kind;

/// The rows of a table, in their order.
const KINDS: [Kind; 7] =
    [Kind::Memory, Kind::Peer, Kind::Replay, Kind::Sqlite, Kind::PeerSqlite, Kind::Postgres, Kind::Baseline];

/// Minimum, median and maximum.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn from_figures(mut figures: Vec<f64>) -> Self {
        figures.sort_unstable_by(f64::total_cmp);
        let last = figures.len() - 1;
        Self {
            least: figures[0],
            median: f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]),
            most: figures[last],
        }
    }
}

/// "1 connection" or "n connections".
pub(crate) fn connections(number: usize) -> String {
    format!("{number} connection{}", if number == 1 { "" } else { "s" })
}

/// Throughput and latency of one connector on each storage, for the head of the page.
pub(crate) fn summary(level: &Level, processor: &str) -> String {
    let mut text = format!(
        "One connector on one processor ({processor}), over {}, measured with wrk ([how](#how-it-is-measured)):\n\n\
         | storage | new scans a second | 50 % of answers within | 99 % within | memory |\n|---|---|---|---|---|\n",
        connections(level.connections)
    );
    for (kind, storage) in [(Kind::Memory, "`memory:`"), (Kind::Sqlite, "SQLite"), (Kind::Postgres, "PostgreSQL")] {
        let outcomes = level.outcomes(kind);
        let throughput = median(&outcomes, |outcome| outcome.throughput);
        let [half, most] = [0, 1].map(|index| median(&outcomes, |outcome| seconds(outcome, index) * 1e3));
        let memory = median(&outcomes, |outcome| outcome.resident as f64 / 1e6);
        text += &format!("| {storage} | {throughput:.0} | {half:.2} ms | {most:.2} ms | {memory:.0} MB |\n");
    }
    text
}

/// All results for one number of connections.
pub(crate) fn level(level: &Level) -> String {
    let mut text = format!(
        "| {} | share of the baseline | scans a second | 50 % | 99 % | 99.9 % | 99 % / baseline's | CPU time | memory |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        connections(level.connections)
    );
    for kind in KINDS {
        let outcomes = level.outcomes(kind);
        if outcomes.is_empty() {
            continue;
        }
        let throughput = median(&outcomes, |outcome| outcome.throughput);
        let [half, most, nearly] = [0, 1, 2].map(|index| median(&outcomes, |outcome| seconds(outcome, index) * 1e3));
        let processor = median(&outcomes, |outcome| outcome.processor * 1e6);
        let memory = median(&outcomes, |outcome| outcome.resident as f64 / 1e6);
        let Spread { least, median, most: greatest } = level.share(kind);
        let share = format!("**{median:.2}** ({least:.2} to {greatest:.2})");
        let tail = level.ratio(kind, Kind::Baseline, |outcome| seconds(outcome, 1)).median;
        text += &format!(
            "| {} | {share} | {throughput:.0} | {half:.2} ms | {most:.2} ms | {nearly:.2} ms | {tail:.2} | {processor:.1} µs | {memory:.0} MB |\n",
            kind.name()
        );
    }
    text
}

fn median(outcomes: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> f64 {
    Spread::from_figures(outcomes.iter().map(figure).collect()).median
}

fn seconds(outcome: &Outcome, index: usize) -> f64 {
    outcome.latency[index].as_secs_f64()
}

/// The results of `growth`: a table and some sentences.
pub(crate) fn growth(growth: &Growth) -> String {
    let mut text = String::from(
        "| recorded | ready after | memory | memory for each | database | new scans a second | 50 % | 99 % | 99.9 % | retries a second | 50 % | 99 % | 99.9 % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &growth.rows {
        text += &growth_row(row);
    }
    let rest: Vec<String> =
        growth.idle_memory_by_engine.iter().map(|(engine, size)| format!("{} with {engine}", mb(*size))).collect();
    text += &format!("\n- Memory of a connector after its start: {}.\n", rest.join(", "));
    for (kind, events, each) in &growth.kinds {
        text += &format!("- Memory of a recorded event: {each:.0} bytes ({} {kind}).\n", number(*events));
    }
    if let Some(events) = growth.too_many {
        text += &format!("- This machine does not have enough memory for {} events.\n", number(events));
    }
    text += &format!("- The slowest answer while the events were added: {}.\n", ms(growth.longest));
    let (keys, import) = (number(growth.import.0), growth.import.1.as_secs_f64());
    text += &format!("- The import of {keys} keys into SQLite took {import:.0} s, on one processor.\n");
    text
}

pub(crate) fn growth_row(row: &Row) -> String {
    let nothing = String::new;
    let start = row.start.map_or_else(nothing, ms);
    let each = row.each.map_or_else(nothing, |each| format!("{each:.0} bytes"));
    let disk = row.disk.map_or_else(nothing, mb);
    let run = |outcome: &Outcome| {
        let [half, most, nearly] = [0, 1, 2].map(|index| seconds(outcome, index) * 1e3);
        format!("{:.0} | {half:.2} ms | {most:.2} ms | {nearly:.2} ms", outcome.throughput)
    };
    let again = row.again.as_ref().map_or_else(|| " | | | ".to_owned(), run);
    format!("| {} | {start} | {} | {each} | {disk} | {} | {again} |\n", row.what, mb(row.resident), run(&row.new))
}

fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}
