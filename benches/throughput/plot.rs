//! The diagram of the throughput: a group of bars for each number of connections. The SVG is written by hand, because
//! it needs a style sheet for light and dark pages, which no plotting crate writes.

use crate::growth::number;
use crate::report::{self, Spread};
use crate::rounds::Level;
use crate::server::Kind;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 440.0;
/// The area of the bars.
const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 92.0;
const BOTTOM: f64 = HEIGHT - 44.0;
/// The share of a group's width that its bars take.
const FILLED: f64 = 0.86;
/// The maximum number of steps of the axis.
const STEPS: f64 = 8.0;

/// The bars in their order, with their classes in the style sheet.
const SERIES: [(Kind, &str); 5] = [
    (Kind::Baseline, "baseline"),
    (Kind::Memory, "memory"),
    (Kind::Replay, "replay"),
    (Kind::Sqlite, "sqlite"),
    (Kind::Postgres, "postgres"),
];

const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #24292f }
  .title { font-size: 16px; font-weight: 600 } .legend { font-size: 12px } .small { font-size: 11px } .quiet { fill: #57606a }
  .page { fill: #ffffff; stroke: #d0d7de } .grid { stroke: #d0d7de } .axis { stroke: #57606a } .spread { stroke: #24292f; fill: none }
  .baseline { fill: #a0a8b1 } .memory { fill: #0072b2 } .replay { fill: #56b4e9 } .sqlite { fill: #e69f00 } .postgres { fill: #009e73 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .quiet { fill: #9aa4af } .page { fill: #0d1117; stroke: #30363d } .grid { stroke: #30363d } .axis { stroke: #9aa4af }
    .spread { stroke: #e6edf3 } .baseline { fill: #6e7681 } .memory { fill: #2f8fce } .replay { fill: #8ecdf3 } .sqlite { fill: #eab03a }
    .postgres { fill: #24b58b }
  }
";

/// The diagram as SVG.
pub(crate) fn draw(levels: &[Level]) -> String {
    let mut levels: Vec<&Level> = levels.iter().collect();
    levels.sort_unstable_by_key(|level| level.connections);
    let all = levels.iter().flat_map(|level| SERIES.iter().map(|(kind, _)| throughput(level, *kind)));
    let most = all.map(|spread| spread.most).fold(0.0, f64::max);
    let step = step(most);
    let top = most * 1.08; // space for the number above a bar
    let height = |figure: f64| (BOTTOM - TOP) * figure / top;
    let mut svg = format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    svg += &format!("<title>Scans a second by number of connections</title>\n<style>{STYLE}</style>\n");
    let (width, height_of_page) = (WIDTH - 1.0, HEIGHT - 1.0);
    svg +=
        &format!("<rect class=\"page\" x=\"0.5\" y=\"0.5\" width=\"{width}\" height=\"{height_of_page}\" rx=\"8\"/>\n");
    svg += &text("title", "start", [20.0, 32.0], "Scans a second on one processor");
    svg += &text(
        "small quiet",
        "end",
        [RIGHT, 32.0],
        "number above a bar: its share of the baseline; line: slowest to fastest run",
    );
    legend(&mut svg);
    for tick in (0..20_u32).take_while(|tick| f64::from(*tick) * step <= top) {
        let figure = f64::from(tick) * step;
        let (y, class) = (BOTTOM - height(figure), if tick == 0 { "axis" } else { "grid" });
        svg += &format!("<path class=\"{class}\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\n");
        svg += &text("quiet", "end", [LEFT - 8.0, y + 4.0], &number(format!("{figure:.0}").parse().unwrap()));
    }
    let group = (RIGHT - LEFT) / levels.len() as f64;
    let bar = group * FILLED / SERIES.len() as f64;
    for (index, level) in levels.iter().enumerate() {
        let left = LEFT + group * index as f64;
        let name = report::connections(level.connections);
        svg += &text("", "middle", [left + group / 2.0, BOTTOM + 24.0], &name);
        for (index, (kind, class)) in SERIES.iter().enumerate() {
            let Spread { least, median, most } = throughput(level, *kind);
            let (x, width) = (left + group * (1.0 - FILLED) / 2.0 + bar * index as f64 + 1.5, bar - 3.0);
            let (center, tall) = (x + width / 2.0, height(median));
            let [top, low, high] = [median, least, most].map(|figure| BOTTOM - height(figure));
            svg += &format!(
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{tall:.1}\"/>\n"
            );
            svg += &format!(
                "<path class=\"spread\" d=\"M{center:.1} {low:.1}V{high:.1}m-4 0h8M{center:.1} {low:.1}m-4 0h8\"/>\n"
            );
            if *kind != Kind::Baseline {
                svg += &text("small", "middle", [center, high - 5.0], &format!("{:.2}", level.share(*kind).median));
            }
        }
    }
    svg + "</svg>\n"
}

fn text(class: &str, anchor: &str, [x, y]: [f64; 2], text: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
}

fn legend(svg: &mut String) {
    let mut x = 20.0;
    for (kind, class) in SERIES {
        let name = kind.name();
        *svg += &format!("<rect class=\"{class}\" x=\"{x}\" y=\"51\" width=\"12\" height=\"12\" rx=\"2\"/>\n");
        *svg += &text("legend", "start", [x + 18.0, 61.0], name);
        x += 30.0 + 7.0 * name.len() as f64;
    }
}

fn throughput(level: &Level, kind: Kind) -> Spread {
    Spread::from_figures(level.outcomes(kind).iter().map(|outcome| outcome.throughput).collect())
}

/// The step of the axis, a round number.
fn step(most: f64) -> f64 {
    let least = most / STEPS;
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|digit| digit * power).find(|step| *step >= least).unwrap()
}
