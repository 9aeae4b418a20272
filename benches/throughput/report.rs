//! Pairs of runs as a table.

use crate::load::Outcome;

/// The floor and the connector, one right after the other.
pub(crate) struct Pair {
    pub(crate) floor: Outcome,
    pub(crate) connector: Outcome,
}

pub(crate) fn headings(connections: usize) -> String {
    format!(
        "| {connections} connections | of the floor | a second | 50 % | 99 % | 99.9 % | its 99 % to the floor's | processor | memory |\n\
         |---|---|---|---|---|---|---|---|---|"
    )
}

pub(crate) fn row(name: &str, pairs: &[Pair]) -> String {
    let of = |figure: &dyn Fn(&Pair) -> f64| Spread::of(pairs.iter().map(figure).collect());
    let ratio = of(&|pair| pair.connector.throughput / pair.floor.throughput);
    let tail = of(&|pair| pair.connector.latency[1].as_secs_f64() / pair.floor.latency[1].as_secs_f64());
    let throughput = of(&|pair| pair.connector.throughput).median;
    let [half, most, nearly] =
        [0, 1, 2].map(|place| of(&|pair| pair.connector.latency[place].as_secs_f64() * 1e3).median);
    let processor = of(&|pair| pair.connector.processor * 1e6).median;
    let memory = of(&|pair| pair.connector.resident as f64 / 1e6).median;
    format!(
        "| {name} | **{:.2}** ({:.2} to {:.2}) | {throughput:.0} | {half:.2} ms | {most:.2} ms | {nearly:.2} ms | {:.2} | {processor:.1} µs | {memory:.0} MB |",
        ratio.median, ratio.least, ratio.most, tail.median
    )
}

/// What lies in the middle, and how far the others are from it.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_unstable_by(f64::total_cmp);
        Self { least: figures[0], median: figures[figures.len() / 2], most: figures[figures.len() - 1] }
    }
}
