//! What becomes of it when there is much to be remembered: events on both engines that one connector has to itself, and keys.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::connector::Connector;
use crate::counts::figure;
use crate::events::{self, Recorded, Shown};
use crate::keys::{self, Keys};
use crate::load::{self, Outcome, Scans, WARM};
use crate::process::resident;
use crate::report;
use crate::rows;
use crate::server::{DATABASE, connector, folder, sqlite};

/// How many events are remembered, in turn.
pub(crate) const SIZES: [u64; 3] = [10_000, 1_000_000, 10_000_000];
const CONNECTIONS: usize = 50;
/// Who shows a badge where the number of events grows.
const REGULARS: Keys = Keys::badges(100_000);
/// How many events of each kind are remembered, to know what one takes, at most.
const KINDS: u64 = 100_000;
/// Starts, of which the one in the middle counts.
const STARTS: usize = 3;
/// Until it has nothing more to do after its start.
const REST: Duration = Duration::from_secs(2);
const MEMORY: &str = "memory:";

/// A connector that remembers so much.
pub(crate) struct Row {
    pub(crate) what: String,
    /// Until it is ready.
    pub(crate) start: Option<Duration>,
    /// Before it is asked anything.
    pub(crate) resident: u64,
    /// Of that, for each that is remembered.
    pub(crate) each: Option<f64>,
    /// Of the database.
    pub(crate) disk: Option<u64>,
    pub(crate) new: Outcome,
    /// Of what is remembered.
    pub(crate) again: Option<Outcome>,
}

#[derive(Default)]
pub(crate) struct Growth {
    /// Memory of a fresh one, by its engine.
    pub(crate) at_rest: Vec<(&'static str, u64)>,
    pub(crate) rows: Vec<Row>,
    /// Memory for each event of one kind, and of how many.
    pub(crate) kinds: Vec<(&'static str, u64, f64)>,
    /// Memory for an accepted entry, where there were most of them.
    pub(crate) an_event: f64,
    /// Of how many events there was no memory for.
    pub(crate) too_many: Option<u64>,
    /// How long the longest answer took while they became more and more.
    pub(crate) longest: Duration,
    /// Until one is ready whose SQLite file has all those keys, and how many.
    pub(crate) ready_with_keys: (Duration, u64),
    /// How long the import of those took.
    pub(crate) import: Duration,
}

/// Measures all of it, for so long at a time.
pub(crate) fn measure(sizes: &[u64], time: Duration) -> Growth {
    let mut growth = Growth::default();
    growth.rest();
    growth.events_in_memory(sizes, time);
    let most = sizes.iter().copied().max().unwrap().min(keys::MOST);
    growth.kinds_in_memory(most.min(KINDS));
    sizes.iter().for_each(|events| growth.events_in_sqlite(*events, time));
    growth.keys_in_memory(most, time);
    growth.keys_in_sqlite(most, time);
    growth
}

impl Growth {
    /// One row more, which is printed at once: all of them take their time.
    fn add(&mut self, row: Row) {
        print!("{}", report::growth_row(&row));
        self.rows.push(row);
    }

    fn rest(&mut self) {
        for (engine, is_file) in [("memory", false), ("SQLite", true)] {
            let folder = TempDir::new_in(folder()).unwrap();
            let storage = if is_file { sqlite(folder.path()) } else { MEMORY.to_owned() };
            let connector = Connector::start(serve(&storage, None), folder.path());
            std::thread::sleep(REST);
            self.at_rest.push((engine, resident(connector.process())));
        }
    }

    fn events_in_memory(&mut self, sizes: &[u64], time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        let directory = REGULARS.directory_file(folder.path());
        let connector = Connector::start(serve(MEMORY, Some(&directory)), folder.path());
        let empty = rested(&connector);
        let mut next = 0;
        for events in sizes.iter().copied() {
            // The runs have added some of their own.
            let missing = events.saturating_sub(remembered(&connector));
            if missing as f64 * self.an_event > available() {
                self.too_many = Some(events);
                break;
            }
            let shown = Shown::Known { keys: REGULARS, location: "ENTRY" };
            let longest = events::decide(&connector, next..next + missing, &shown);
            self.longest = self.longest.max(longest);
            next += missing;
            let resident = resident(connector.process());
            let each = (resident - empty) as f64 / remembered(&connector) as f64;
            self.an_event = each;
            let recorded = Recorded { keys: REGULARS, events: next, scans_of_a_visit: 1 };
            let again = ask(&connector, &Scans::Recorded(recorded), time);
            let new = ask(&connector, &Scans::New(REGULARS), time);
            let what = format!("{} events, memory", number(events));
            let row = Row { what, start: None, resident, each: Some(each), disk: None, new, again: Some(again) };
            self.add(row);
        }
    }

    /// What those take that are no accepted entries.
    fn kinds_in_memory(&mut self, events: u64) {
        let folder = TempDir::new_in(folder()).unwrap();
        let directory = REGULARS.directory_file(folder.path());
        let mut add = |connector: &Connector, name, first, shown: &Shown| {
            let before = rested(connector);
            events::decide(connector, first..first + events, shown);
            let each = (resident(connector.process()) - before) as f64 / events as f64;
            self.kinds.push((name, events, each));
        };
        let connector = Connector::start(serve(MEMORY, Some(&directory)), folder.path());
        add(&connector, "entries", 0, &Shown::Known { keys: REGULARS, location: "ENTRY" });
        add(&connector, "exits that close their sessions", events, &Shown::Known { keys: REGULARS, location: "EXIT" });
        connector.stop();
        let connector = Connector::start(serve(MEMORY, Some(&directory)), folder.path());
        add(&connector, "denied entries", 0, &Shown::Stranger);
    }

    fn events_in_sqlite(&mut self, events: u64, time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        import(folder.path(), REGULARS);
        let recorded = Recorded { keys: REGULARS, events, scans_of_a_visit: 2 };
        rows::write(folder.path(), recorded);
        let (connector, start, resident) = started(&serve_file(folder.path()), folder.path());
        assert_eq!(remembered(&connector), events, "what was written for it to remember");
        let disk = database_size(folder.path());
        let again = ask(&connector, &Scans::Recorded(recorded), time);
        let new = ask(&connector, &Scans::New(REGULARS), time);
        let what = format!("{} events, SQLite", number(events));
        let row = Row { what, start: Some(start), resident, each: None, disk: Some(disk), new, again: Some(again) };
        self.add(row);
    }

    fn keys_in_memory(&mut self, keys: u64, time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        let directory = Keys::badges(keys).directory_file(folder.path());
        let serve = || serve(MEMORY, Some(&directory));
        let (connector, start, resident) = started(&serve, folder.path());
        let fresh = self.at_rest[0].1;
        let each = resident.saturating_sub(fresh) as f64 / keys as f64;
        let new = ask(&connector, &Scans::New(Keys::badges(keys)), time);
        let what = format!("{} keys, memory", number(keys));
        self.add(Row { what, start: Some(start), resident, each: Some(each), disk: None, new, again: None });
    }

    fn keys_in_sqlite(&mut self, keys: u64, time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        self.import = import(folder.path(), Keys::badges(keys));
        let (connector, start, resident) = started(&serve_file(folder.path()), folder.path());
        self.ready_with_keys = (start, keys);
        let disk = database_size(folder.path());
        let new = ask(&connector, &Scans::New(Keys::badges(keys)), time);
        let what = format!("{} keys, SQLite", number(keys));
        self.add(Row { what, start: Some(start), resident, each: None, disk: Some(disk), new, again: None });
    }
}

/// Ten thousand and more are easier to read so.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(" ")
}

fn serve(storage: &str, directory: Option<&Path>) -> Command {
    let mut command = connector(&[], storage);
    command.arg("serve");
    directory.iter().for_each(|file| {
        command.env("CONNECTOR__DIRECTORY__FILE", file);
    });
    command
}

fn serve_file(folder: &Path) -> impl Fn() -> Command {
    let storage = sqlite(folder);
    move || serve(&storage, None)
}

/// Starts it several times, and leaves the last one running: with the time that a start takes, and the memory it holds after that.
fn started(serve: &dyn Fn() -> Command, folder: &Path) -> (Connector, Duration, u64) {
    let mut took = Vec::new();
    loop {
        let connector = Connector::start(serve(), folder);
        took.push(connector.ready_after);
        if took.len() == STARTS {
            took.sort_unstable();
            let resident = rested(&connector);
            return (connector, took[STARTS / 2], resident);
        }
        connector.stop();
    }
}

/// Brings all these into the database of a folder; how long that took.
fn import(folder: &Path, badges: Keys) -> Duration {
    let file = badges.import_file(folder);
    let began = Instant::now();
    let output = connector(&[], &sqlite(folder)).args(["import", "--create"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(file).unwrap();
    began.elapsed()
}

fn ask(connector: &Connector, scans: &Scans, time: Duration) -> Outcome {
    let run = |time| load::ask(connector, scans, CONNECTIONS, time);
    run(WARM);
    let outcome = run(time);
    connector.empty_log();
    outcome
}

/// Memory of one that has nothing to do.
fn rested(connector: &Connector) -> u64 {
    std::thread::sleep(REST);
    resident(connector.process())
}

fn remembered(connector: &Connector) -> u64 {
    figure(&connector.metrics(), "connector_ledger_records")
}

fn database_size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join(DATABASE)).unwrap().len()
}

/// Memory that nobody has, in bytes.
fn available() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
