//! Counts memory allocations per request with valgrind, as the difference of two runs, so that the start is not
//! counted.

use std::path::Path;

use crate::programs::Programs;
use crate::server::{Kind, Server};

const KINDS: [Kind; 5] = [Kind::Baseline, Kind::Memory, Kind::Replay, Kind::Sqlite, Kind::Postgres];
/// The number of requests of the two runs. The shorter one includes every shopper.
const FEW: u64 = 1200;
const MANY: u64 = 2200;

/// Whether valgrind is installed.
pub(crate) fn can_be_counted() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join("valgrind").is_file())
}

/// A table of the allocations per request for each kind.
pub(crate) fn table(programs: &Programs) -> String {
    let rows = programs.available(&KINDS).into_iter().map(|kind| {
        let [few, many] = [FEW, MANY].map(|requests| after(kind, requests, programs));
        format!("| {} | {:.1} |\n", kind.name(), (many - few) as f64 / (MANY - FEW) as f64)
    });
    format!("| | allocations a request |\n|---|---|\n{}", rows.collect::<String>())
}

fn after(kind: Kind, requests: u64, programs: &Programs) -> u64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    let server = Server::start_under(&valgrind(file.path()), kind, programs);
    server.answer_all(requests, kind != Kind::Replay);
    server.stop();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let (_, rest) = text.split_once("total heap usage: ").unwrap_or_else(|| panic!("valgrind: {text}"));
    rest.split(' ').next().unwrap().replace(',', "").parse().unwrap()
}

fn valgrind(file: &Path) -> Vec<String> {
    ["valgrind", "--leak-check=no"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--log-file={}", file.display())])
        .collect()
}
