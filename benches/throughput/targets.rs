//! Performance targets, and whether they are met.

use crate::growth::Growth;
use crate::pairs::Level;
use crate::report::Spread;
use crate::server::Kind;

/// The number of connections for most targets, and for SQLite, where many scans share a commit.
const USUAL: usize = 50;
const MANY: usize = 256;

struct Target {
    what: String,
    /// The minimum or maximum.
    bound: Bound,
    unit: &'static str,
    measured: f64,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// All targets as a table.
pub(crate) fn table(levels: &[Level], growth: &Growth) -> String {
    let pairs = |kind, connections| {
        let level = levels.iter().find(move |level| level.connections == connections).unwrap();
        level.pairs_of(kind).unwrap()
    };
    let share = |kind, connections| Spread::share(pairs(kind, connections)).median;
    let least = levels.iter().map(|level| Spread::share(pairs(Kind::Memory, level.connections)).least).reduce(f64::min);
    let idle_memory_by_engine =
        growth.idle_memory_by_engine.iter().map(|(_, bytes)| *bytes as f64 / 1e6).reduce(f64::max);
    let (ready, keys) = growth.ready_with_keys;
    let events = "bytes for a recorded event in memory".to_owned();
    let targets = [
        target(
            "new scans in memory, 50 connections: share of the baseline",
            Bound::AtLeast(0.80),
            "",
            share(Kind::Memory, USUAL),
        ),
        target(
            "new scans in memory, any number of connections: lowest share of any pair",
            Bound::AtLeast(0.60),
            "",
            least.unwrap(),
        ),
        target(
            "retries in memory, 50 connections: share of the baseline",
            Bound::AtLeast(0.90),
            "",
            share(Kind::Replay, USUAL),
        ),
        target(
            "new scans on SQLite, 256 connections: share of the baseline",
            Bound::AtLeast(0.40),
            "",
            share(Kind::Sqlite, MANY),
        ),
        target(
            "new scans on SQLite, 256 connections: lowest share of any pair",
            Bound::AtLeast(0.20),
            "",
            Spread::share(pairs(Kind::Sqlite, MANY)).least,
        ),
        target(
            "new scans in memory, 50 connections: 99 % latency / baseline's",
            Bound::AtMost(1.5),
            "",
            Spread::tail(pairs(Kind::Memory, USUAL)).median,
        ),
        Target { what: events, bound: Bound::AtMost(200.0), unit: "", measured: growth.bytes_per_event },
        target("memory of a connector after its start", Bound::AtMost(20.0), " MB", idle_memory_by_engine.unwrap()),
        Target {
            what: format!("ready with {} keys in SQLite", crate::growth::number(keys)),
            bound: Bound::AtMost(100.0),
            unit: " ms",
            measured: ready.as_secs_f64() * 1e3,
        },
    ];
    let mut text = String::from("| | target | measured | |\n|---|---|---|---|\n");
    targets.iter().for_each(|target| text += &target.row());
    text
}

fn target(what: &str, bound: Bound, unit: &'static str, measured: f64) -> Target {
    Target { what: what.to_owned(), bound, unit, measured }
}

impl Target {
    fn row(&self) -> String {
        let (Self { what, unit, .. }, measured) = (self, self.measured);
        let (word, bound) = match self.bound {
            Bound::AtLeast(bound) => ("at least", bound),
            Bound::AtMost(bound) => ("at most", bound),
        };
        let with_unit =
            |figure: f64| if figure < 10.0 { format!("{figure:.2}{unit}") } else { format!("{figure:.0}{unit}") };
        let is_met = match self.bound {
            Bound::AtLeast(bound) => measured >= bound,
            Bound::AtMost(bound) => measured <= bound,
        };
        let missed = (measured - bound).abs() / bound * 100.0;
        let verdict = if is_met { "met".to_owned() } else { format!("**missed by {missed:.0} %**") };
        format!("| {what} | {word} {} | {} | {verdict} |\n", with_unit(bound), with_unit(measured))
    }
}
