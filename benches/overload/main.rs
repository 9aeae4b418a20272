//! What overload does: an open load on the binary, whose directory takes 20 ms for a scan and 64 scans at a time, so that it can do
//! 3200 a second; at 1, 2, 5 and 10 times that, and at half of it afterwards.
//!
//! `.ci/checks/overload.sh` runs it and says what it promises; it ends with 1 where a promise is broken.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a measurement fails where it panics, and prints what it has measured"
)]

#[expect(dead_code, reason = "another benchmark needs more of it")]
#[path = "../support/connector.rs"]
mod connector;
mod load;
#[expect(dead_code, reason = "another benchmark needs more of it")]
#[path = "../support/process.rs"]
mod process;
mod run;
mod setting;

use std::time::Duration;

use run::Run;
use setting::{PLACES, SLOW};
use tempfile::TempDir;

/// Scans a second that the directory can do.
const CAPACITY: f64 = PLACES as f64 * 1000.0 / SLOW.as_millis() as f64;
/// Beyond this many times the capacity, in turn.
const TIMES: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// What is left of the best goodput at each of them, at least.
const KEPT: f64 = 0.95;
/// By when nearly every answer is there: of those accepted, and of those refused, most of whom wait for nobody and some for a place.
const ACCEPTED: Duration = Duration::from_millis(1_500);
const REFUSED: Duration = Duration::from_millis(100);
/// How long after the overload all is as it was before.
const RECOVERY: Duration = Duration::from_secs(5);

fn main() {
    let seconds = std::env::var("OVERLOAD_SECONDS").map_or(8.0, |text| text.parse().unwrap());
    let folder = TempDir::new().unwrap();
    let connector = setting::start(&folder);
    let run = |times: f64, seconds: f64| Run::of(&connector, times * CAPACITY, Duration::from_secs_f64(seconds));
    let mut broken = Vec::new();
    let mut hold = |holds: bool, promise: String| {
        if !holds {
            broken.push(promise);
        }
    };

    println!("{PLACES} in flight, {SLOW:?} each: {CAPACITY} a second. The machine: {}", run::machine());
    println!("{}", Run::HEADINGS);
    run(1.0, 3.0); // connections are open then, and caches warm
    let before = run(0.5, 5.0);
    println!("{}", before.row("before"));
    let runs = TIMES.map(|times| {
        let run = run(times, seconds);
        println!("{}", run.row(&format!("{times} x")));
        run
    });
    let after = run(0.5, (RECOVERY * 2).as_secs_f64());
    println!("{}", after.row("after"));
    let (early, late) = after.split_at(RECOVERY);
    println!("{}", early.row("  at once"));
    println!("{}", late.row("  5 s later"));

    let peak = runs.iter().map(Run::goodput).fold(0.0, f64::max);
    for (run, times) in runs.iter().zip(TIMES) {
        let kept = run.goodput() / peak;
        println!("{times} x: {:.1} % of the best goodput", kept * 100.0);
        hold(kept >= KEPT, format!("{times} x: goodput {:.0}, of {peak:.0} at best", run.goodput()));
        hold(run.only([200, 429]), format!("{times} x: answers other than 200 and 429: {}", run.statuses()));
        let (accepted, refused) = (run.percentile(200, 0.99), run.percentile(429, 0.99));
        hold(accepted <= ACCEPTED, format!("{times} x: 99 % of the accepted within {accepted:?}"));
        hold(refused <= REFUSED, format!("{times} x: 99 % of the refused within {refused:?}"));
    }
    hold(before.only([200, 200]), format!("before: {}", before.statuses()));
    hold(late.only([200, 200]), format!("5 s after the overload: {}", late.statuses()));
    let (was, is) = (before.percentile(200, 0.99), late.percentile(200, 0.99));
    hold(
        is <= was * 2 + Duration::from_millis(10),
        format!("5 s after the overload: 99 % within {is:?}, {was:?} before"),
    );

    connector.stop();
    for promise in &broken {
        println!("BROKEN: {promise}");
    }
    println!("The machine at the end: {}", run::machine());
    std::process::exit(i32::from(!broken.is_empty()));
}
