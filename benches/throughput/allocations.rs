//! How often a server asks for memory to answer a request, counted by valgrind: the difference of two runs, so that the start does not count.

use std::path::Path;

use crate::pairs;
use crate::postgres::Postgres;
use crate::server::{Kind, Server};

/// Requests of the two runs: by the end of the shorter one, all shoppers have been there.
const FEW: u64 = 1200;
const MANY: u64 = 2200;

/// Whether there is valgrind here.
pub(crate) fn can_be_counted() -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join("valgrind").is_file())
}

/// Allocations for each request of each kind as a table.
pub(crate) fn table(postgres: Option<&Postgres>) -> String {
    let rows = [Kind::Baseline].into_iter().chain(pairs::kinds(postgres)).map(|kind| {
        let [few, many] = [FEW, MANY].map(|requests| after(kind, requests, postgres));
        format!("| {} | {:.1} |\n", kind.name(), (many - few) as f64 / (MANY - FEW) as f64)
    });
    format!("| | allocations a request |\n|---|---|\n{}", rows.collect::<String>())
}

fn after(kind: Kind, requests: u64, postgres: Option<&Postgres>) -> u64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    let server = Server::start_under(&counting(file.path()), kind, postgres);
    server.answer_all(requests, kind != Kind::Replay);
    server.stop();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let (_, rest) = text.split_once("total heap usage: ").unwrap_or_else(|| panic!("valgrind: {text}"));
    rest.split(' ').next().unwrap().replace(',', "").parse().unwrap()
}

fn counting(file: &Path) -> Vec<String> {
    ["valgrind", "--leak-check=no"]
        .into_iter()
        .map(str::to_owned)
        .chain([format!("--log-file={}", file.display())])
        .collect()
}
