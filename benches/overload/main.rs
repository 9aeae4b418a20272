//! Behaviour under overload. An open load on the binary, with a directory that takes 20 ms for a scan and
//! `server.max_in_flight` = 64, so a capacity of 3200 scans a second. The load is 1, 2, 5 and 10 times the capacity,
//! and half of it before and afterwards.
//!
//! `.ci/checks/overload.sh` runs it and lists the promises. The exit code is 1 if a promise is broken.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its results"
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
use setting::{MAX_IN_FLIGHT, SLOW};
use tempfile::TempDir;

/// The capacity in scans a second.
const CAPACITY: f64 = MAX_IN_FLIGHT as f64 * 1000.0 / SLOW.as_millis() as f64;
/// The load of each run, as a multiple of the capacity.
const TIMES: [f64; 4] = [1.0, 2.0, 5.0, 10.0];
/// The minimum goodput of each run, as a share of the best one.
const KEPT: f64 = 0.95;
/// The maximum 99th percentile of latency: of accepted scans, and of refused ones. A refused scan may wait briefly for
/// a permit.
const ACCEPTED: Duration = Duration::from_millis(1_500);
const REFUSED: Duration = Duration::from_millis(100);
/// The time after the overload until latency and answers are back to normal.
const RECOVERY: Duration = Duration::from_secs(5);

fn main() {
    let seconds = std::env::var("OVERLOAD_SECONDS").map_or(8.0, |text| text.parse().unwrap());
    let folder = TempDir::new().unwrap();
    let connector = setting::start(&folder);
    let run = |times: f64, seconds: f64| Run::measure(&connector, times * CAPACITY, Duration::from_secs_f64(seconds));
    let mut broken = Vec::new();
    let mut check = |is_kept: bool, promise: String| {
        if !is_kept {
            broken.push(promise);
        }
    };

    println!("{MAX_IN_FLIGHT} in flight, {SLOW:?} each: {CAPACITY} a second. Machine: {}", run::machine());
    println!("{}", Run::HEADINGS);
    run(1.0, 3.0); // opens the connections and warms the caches
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
    println!("{}", early.row("  first 5 s"));
    println!("{}", late.row("  5 s later"));

    let peak = runs.iter().map(Run::goodput).fold(0.0, f64::max);
    for (run, times) in runs.iter().zip(TIMES) {
        let kept = run.goodput() / peak;
        println!("{times} x: {:.1} % of the best goodput", kept * 100.0);
        check(kept >= KEPT, format!("{times} x: goodput {:.0}, of {peak:.0} at best", run.goodput()));
        check(run.has_only([200, 429]), format!("{times} x: answers other than 200 and 429: {}", run.statuses()));
        let (accepted, refused) = (run.percentile(200, 0.99), run.percentile(429, 0.99));
        check(accepted <= ACCEPTED, format!("{times} x: 99 % of the accepted within {accepted:?}"));
        check(refused <= REFUSED, format!("{times} x: 99 % of the refused within {refused:?}"));
    }
    check(before.has_only([200, 200]), format!("before: {}", before.statuses()));
    check(late.has_only([200, 200]), format!("5 s after the overload: {}", late.statuses()));
    let (was, is) = (before.percentile(200, 0.99), late.percentile(200, 0.99));
    check(
        is <= was * 2 + Duration::from_millis(10),
        format!("5 s after the overload: 99 % within {is:?}, {was:?} before"),
    );

    connector.stop();
    for promise in &broken {
        println!("BROKEN: {promise}");
    }
    println!("Machine at the end: {}", run::machine());
    std::process::exit(i32::from(!broken.is_empty()));
}
