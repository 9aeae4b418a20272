//! A steady load of scans with new events on an address, until standard input closes. Then it prints the results. The
//! exit code is 1 unless every scan got a 200 within Amazon's time-out of two seconds.
//!
//! Usage: steady ADDRESS RATE KEY STORE [HEADER …]. `.ci/checks/rolling-restarts.sh` uses it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark may panic, and prints its results"
)]

#[path = "../overload/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use load::Target;

/// Amazon's time-out.
const IN_TIME: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let mut next = |what| arguments.next().expect(what);
    let (address, rate) = (next("ADDRESS").parse().unwrap(), next("RATE").parse().unwrap());
    let (key, store) = (next("KEY"), next("STORE"));
    let headers = arguments.map(|header| format!("{header}\r\n")).collect();
    let target = Target { address, connections: 32, headers, key, store };

    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        over.store(true, Ordering::Relaxed);
    });
    let samples = load::run(&target, rate, |_| is_over.load(Ordering::Relaxed));

    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for sample in &samples {
        *counts.entry(sample.status).or_default() += 1;
    }
    let mut took: Vec<_> = samples.iter().map(|sample| sample.took).collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let good = samples.iter().filter(|sample| sample.status == 200 && sample.took < IN_TIME).count();
    let (half, most, all) = (at(0.5), at(0.99), at(1.0));
    println!(
        "{} requests, {good} of them 200 in time; 50 % within {half:.1?}, 99 % within {most:.1?}, all within {all:.1?}",
        samples.len()
    );
    for sample in samples.iter().filter(|sample| sample.status != 200 || sample.took >= IN_TIME).take(20) {
        println!(
            "LOST after {:.3?}: status {} (0: broken off, 1: unsent), {:.1?}",
            sample.due, sample.status, sample.took
        );
    }
    println!("by status: {counts:?}");
    std::process::exit(i32::from(good != samples.len()));
}
