//! The results as tables.

use std::time::Duration;

use crate::growth::{Growth, Row, number};
use crate::load::Outcome;
use crate::pairs::{Level, Pair};

/// Minimum, median and maximum.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_unstable_by(f64::total_cmp);
        let last = figures.len() - 1;
        Self {
            least: figures[0],
            median: f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]),
            most: figures[last],
        }
    }

    /// The spread of the throughput.
    pub(crate) fn throughput(outcomes: &[Outcome]) -> Self {
        Self::of(outcomes.iter().map(|outcome| outcome.throughput).collect())
    }

    /// The spread of the connector's throughput as a share of the floor's.
    pub(crate) fn share(pairs: &[Pair]) -> Self {
        Self::of(pairs.iter().map(|pair| pair.connector.throughput / pair.floor.throughput).collect())
    }

    /// The spread of the ratio of the 99th percentiles of latency: connector to floor.
    pub(crate) fn tail(pairs: &[Pair]) -> Self {
        Self::of(pairs.iter().map(|Pair { floor, connector }| seconds(connector, 1) / seconds(floor, 1)).collect())
    }
}

/// "1 connection" or "n connections".
pub(crate) fn connections(number: usize) -> String {
    format!("{number} connection{}", if number == 1 { "" } else { "s" })
}

pub(crate) fn headings(number: usize) -> String {
    format!(
        "| {} | of the floor | a second | 50 % | 99 % | 99.9 % | its 99 % to the floor's | processor | memory |\n|---|---|---|---|---|---|---|---|---|",
        connections(number)
    )
}

pub(crate) fn row(name: &str, pairs: &[Pair]) -> String {
    let (share, tail) = (Spread::share(pairs), Spread::tail(pairs));
    let share = format!("**{:.2}** ({:.2} to {:.2})", share.median, share.least, share.most);
    let outcomes: Vec<Outcome> = pairs.iter().map(|pair| pair.connector).collect();
    figures(name, &share, &format!("{:.2}", tail.median), &outcomes)
}

pub(crate) fn floor_row(level: &Level) -> String {
    figures("floor", "1", "1", &level.floors())
}

fn figures(name: &str, share: &str, tail: &str, outcomes: &[Outcome]) -> String {
    let median = |figure: &dyn Fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(figure).collect()).median;
    let throughput = median(&|outcome| outcome.throughput);
    let [half, most, nearly] = [0, 1, 2].map(|index| median(&|outcome| seconds(outcome, index) * 1e3));
    let processor = median(&|outcome| outcome.processor * 1e6);
    let memory = median(&|outcome| outcome.resident as f64 / 1e6);
    format!(
        "| {name} | {share} | {throughput:.0} | {half:.2} ms | {most:.2} ms | {nearly:.2} ms | {tail} | {processor:.1} µs | {memory:.0} MB |"
    )
}

fn seconds(outcome: &Outcome, index: usize) -> f64 {
    outcome.latency[index].as_secs_f64()
}

/// The results of `growth`: a table and some sentences.
pub(crate) fn growth(growth: &Growth) -> String {
    let mut text = String::from(
        "| with | ready after | memory | of that, each | database | new: a second | 50 % | 99 % | 99.9 % | again: a second | 50 % | 99 % | 99.9 % |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &growth.rows {
        text += &growth_row(row);
    }
    let rest: Vec<String> = growth.at_rest.iter().map(|(engine, size)| format!("{} on {engine}", mb(*size))).collect();
    text += &format!("\nA fresh connector holds {}.\n", rest.join(", "));
    let kinds = growth.kinds.iter().map(|(kind, events, each)| format!("{each:.0} bytes ({} {kind})", number(*events)));
    text += &format!("An event in memory takes {}.\n", kinds.collect::<Vec<_>>().join(", "));
    if let Some(events) = growth.too_many {
        text += &format!("For {} of them this machine has not enough memory.\n", number(events));
    }
    text += &format!("While they became more, the slowest answer took {} at most.\n", ms(growth.longest));
    let (keys, import) = (number(growth.ready_with_keys.1), growth.import.as_secs_f64());
    text += &format!("The import of {keys} keys into SQLite took {import:.0} s, on one processor.\n");
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
