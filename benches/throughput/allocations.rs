//! How often a server asks for memory to answer a request, counted by valgrind: the difference of two runs, so that the start does not count.

use std::path::Path;

use crate::server::{Kind, Server};

/// Requests of the two runs.
const FEW: u64 = 200;
const MANY: u64 = 1200;

/// Allocations for each request of each kind as a table; nothing where there is no valgrind.
pub(crate) fn table() -> String {
    let kinds = [Kind::Floor, Kind::Memory, Kind::Replay, Kind::Sqlite];
    let rows = kinds.into_iter().filter_map(|kind| Some(format!("| {} | {:.1} |\n", kind.name(), a_request(kind)?)));
    let rows: String = rows.collect();
    if rows.is_empty() { rows } else { format!("| | allocations a request |\n|---|---|\n{rows}") }
}

/// `None` where there is no valgrind.
fn a_request(kind: Kind) -> Option<f64> {
    let paths = std::env::var_os("PATH")?;
    if !std::env::split_paths(&paths).any(|folder| folder.join("valgrind").is_file()) {
        return None;
    }
    let [few, many] = [FEW, MANY].map(|requests| after(kind, requests));
    Some((many - few) as f64 / (MANY - FEW) as f64)
}

fn after(kind: Kind, requests: u64) -> u64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    let server = Server::start_under(&counting(file.path()), kind, None);
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
