//! How many instructions a scan takes from the request to its answer, counted by valgrind: a change that makes it dearer is seen here, on
//! however busy a machine.
//!
//! `.ci/checks/instructions.sh` runs it, and fails where a count is over `baselines.txt` by more than [`MARGIN`]. After a change that is
//! meant to cost what it costs, `.ci/checks/instructions.sh --update` writes what it counts there.
//!
//! A scan is answered by the router with all of its layers, in memory: what the network costs is not in it, nor is the thread that
//! writes the log, but handing them its lines is. Counts are those of the compiler and the profile of a release, on x86-64 with AVX2:
//! valgrind has no SHA extensions, so that hashes weigh more here than on the machines they run on.

#![expect(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "a measurement fails where it panics")]
#![expect(missing_docs, unused_qualifications, reason = "what gungraun's macros write")]

mod answers;
#[expect(dead_code, reason = "the parts need more of it")]
#[path = "../parts/fixture.rs"]
mod fixture;

use std::hint::black_box;

use answers::{Answers, Case};
use chrono::{DateTime, Utc};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use identity_connector::domain::scan_key_code::ScanKeyFormat;
use identity_connector::domain::store::ScanKeyWindow;
use identity_connector::http::read_scan;

/// How often each is done.
const TIMES: u64 = 100;
/// How much more it may be, in percent.
const MARGIN: u64 = 5;
/// Has the C library copy without `rep movsb`, of which valgrind counts every byte as an instruction: with it, nearly half of a replay would be
/// copies that take next to no time, and whether it is used depends on the processor.
const COPIES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-ERMS");
/// For each, how many instructions it took that often.
const BASELINES: &str = include_str!("baselines.txt");

fn limit(name: &str) -> LibraryBenchmarkConfig {
    let mut lines = BASELINES.lines().filter_map(|line| line.split_once(' '));
    // What has no baseline yet is over it.
    let baseline = lines.find(|(its, _)| *its == name).map_or(0, |(_, baseline)| baseline.parse::<u64>().unwrap());
    let limit = baseline * (100 + MARGIN) / 100;
    let mut config = LibraryBenchmarkConfig::default();
    config.env(COPIES.0, COPIES.1).tool(Callgrind::with_args(["--cache-sim=no"]).hard_limits([(EventKind::Ir, limit)]));
    config
}

#[library_benchmark(setup = Answers::prepare, teardown = Answers::check)]
#[bench::new_event(args = (Case::NewEvent), config = limit("new_event"))]
#[bench::replay(args = (Case::Replay), config = limit("replay"))]
#[bench::refused_body(args = (Case::RefusedBody), config = limit("refused_body"))]
#[bench::denied_key(args = (Case::DeniedKey), config = limit("denied_key"))]
fn request(mut answers: Answers) -> Answers {
    answers.ask();
    answers
}

#[library_benchmark]
#[bench::validation(args = (fixture::body(1, fixture::CODE, "OPTICAL")), config = limit("validation"))]
fn validation(body: String) -> String {
    for _ in 0..TIMES {
        black_box(read_scan(black_box(body.as_bytes())).unwrap());
    }
    body
}

#[library_benchmark]
#[bench::scan_key_code(args = (fixture::format(), fixture::now()), config = limit("scan_key_code"))]
fn scan_key_code(format: ScanKeyFormat, at: DateTime<Utc>) -> ScanKeyFormat {
    for _ in 0..TIMES {
        let code = format.read(black_box(fixture::CODE)).unwrap();
        black_box(&code).check_age(black_box(at), ScanKeyWindow::DEFAULT).unwrap();
    }
    format
}

library_benchmark_group!(name = scan, benchmarks = [request, validation, scan_key_code]);
main!(library_benchmark_groups = scan);
