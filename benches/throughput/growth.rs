//! Memory, disk, start time and throughput with many recorded events (in memory and in SQLite) and many keys.

use std::ops::Range;
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

/// The numbers of recorded events.
pub(crate) const SIZES: [u64; 3] = [100_000, 1_000_000, 10_000_000];
const CONNECTIONS: usize = 50;
/// The keys of the shoppers in the measurements with a growing number of events. A directory file cannot hold 100 000.
const REGULARS: Keys = Keys::badges(50_000);
/// The number of events with which a connector is warmed up: they use memory that was freed after the directory was read,
/// so that later growth is the growth of the records.
const WARM_UP: u64 = 2 * REGULARS.number;
/// The number of events for the targets.
const MILLION: u64 = 1_000_000;
/// The number of starts. The median of their times is reported.
const STARTS: usize = 3;
/// The time after which a started connector is idle.
const REST: Duration = Duration::from_secs(2);
const MEMORY: &str = "memory:";
const ENTRIES: Shown = Shown::Known { keys: REGULARS, location: "ENTRY" };

/// The results of a connector with this many events or keys.
pub(crate) struct Row {
    pub(crate) what: String,
    /// The time until the connector is ready.
    pub(crate) start: Option<Duration>,
    /// Memory before the first scan.
    pub(crate) resident: u64,
    /// The memory for each event or key.
    pub(crate) each: Option<f64>,
    /// The size of the database.
    pub(crate) disk: Option<u64>,
    /// Scans with new events.
    pub(crate) new: Outcome,
    /// Scans with recorded events.
    pub(crate) again: Option<Outcome>,
}

#[derive(Default)]
pub(crate) struct Growth {
    /// Memory of an idle connector without records, by engine.
    pub(crate) idle_memory_by_engine: Vec<(&'static str, u64)>,
    pub(crate) rows: Vec<Row>,
    /// For each kind of event, the number of events and the memory for one.
    pub(crate) kinds: Vec<(&'static str, u64, f64)>,
    /// The number of events that do not fit into the memory of this machine.
    pub(crate) too_many: Option<u64>,
    /// The longest time for an answer while events were recorded.
    pub(crate) longest: Duration,
    /// The number of keys imported into SQLite, and the time it took.
    pub(crate) import: (u64, Duration),
}

/// The memory of a recorded entry with its session, in bytes.
pub(crate) fn entry_memory() -> f64 {
    let folder = TempDir::new_in(folder()).unwrap();
    let directory = REGULARS.directory_file(folder.path());
    let connector = Connector::start(serve(MEMORY, Some(&directory)), folder.path());
    warm_up(&connector);
    memory_for_each(&connector, WARM_UP..WARM_UP + MILLION, &ENTRIES)
}

fn warm_up(connector: &Connector) {
    events::decide(connector, 0..WARM_UP, &ENTRIES);
}

/// The size of a SQLite file with a million events and few keys, in bytes.
pub(crate) fn file_size() -> u64 {
    let folder = TempDir::new_in(folder()).unwrap();
    let keys = Keys::badges(1000);
    import(folder.path(), keys);
    rows::write(folder.path(), Recorded { keys, events: MILLION, scans_of_a_visit: 2 });
    database_size(folder.path())
}

/// Measures everything, with runs of this length.
pub(crate) fn measure(sizes: &[u64], time: Duration) -> Growth {
    assert!(sizes.iter().all(|events| *events >= WARM_UP), "each number of events must be at least {WARM_UP}");
    let mut growth = Growth::default();
    growth.idle_memory();
    growth.events_in_memory(sizes, time);
    let most = sizes.iter().copied().max().unwrap().min(keys::MAX);
    growth.kinds_in_memory(most.min(MILLION));
    sizes.iter().for_each(|events| growth.events_in_sqlite(*events, time));
    growth.keys_in_memory(most.min(REGULARS.number), time);
    growth.keys_in_sqlite(most, time);
    growth
}

impl Growth {
    /// Adds a row and prints it immediately, because the measurement takes long.
    fn add(&mut self, row: Row) {
        print!("{}", report::growth_row(&row));
        self.rows.push(row);
    }

    fn idle_memory(&mut self) {
        for (engine, is_file) in [("memory", false), ("SQLite", true)] {
            let folder = TempDir::new_in(folder()).unwrap();
            let storage = if is_file { sqlite(folder.path()) } else { MEMORY.to_owned() };
            let connector = Connector::start(serve(&storage, None), folder.path());
            std::thread::sleep(REST);
            self.idle_memory_by_engine.push((engine, resident(connector.process())));
        }
    }

    fn events_in_memory(&mut self, sizes: &[u64], time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        let directory = REGULARS.directory_file(folder.path());
        let connector = Connector::start(serve(MEMORY, Some(&directory)), folder.path());
        warm_up(&connector);
        let (empty, base) = (idle_resident(&connector), record_count(&connector));
        let (mut next, mut each) = (WARM_UP, None);
        for events in sizes.iter().copied() {
            // The measured runs have added events too.
            let missing = events.saturating_sub(record_count(&connector));
            if missing as f64 * each.unwrap_or_default() > available() {
                self.too_many = Some(events);
                break;
            }
            let longest = events::decide(&connector, next..next + missing, &ENTRIES);
            self.longest = self.longest.max(longest);
            next += missing;
            let resident = resident(connector.process());
            let more = record_count(&connector) - base;
            each = (more > 0).then(|| growth_for_each(empty, resident, more));
            let recorded = Recorded { keys: REGULARS, events: next, scans_of_a_visit: 1 };
            let again = ask(&connector, &Scans::Recorded(recorded), time);
            let new = ask(&connector, &Scans::New(REGULARS), time);
            let what = format!("{} events, memory", number(events));
            let row = Row { what, start: None, resident, each, disk: None, new, again: Some(again) };
            self.add(row);
        }
    }

    /// Memory for each kind of event.
    fn kinds_in_memory(&mut self, events: u64) {
        let folder = TempDir::new_in(folder()).unwrap();
        let directory = REGULARS.directory_file(folder.path());
        let connector = Connector::start(serve(MEMORY, Some(&directory)), folder.path());
        warm_up(&connector);
        let exits = Shown::Known { keys: REGULARS, location: "EXIT" };
        let kinds =
            [("entries", &ENTRIES), ("exits that close their sessions", &exits), ("denied entries", &Shown::Unknown)];
        for (number, (name, shown)) in kinds.into_iter().enumerate() {
            let first = WARM_UP + number as u64 * events;
            self.kinds.push((name, events, memory_for_each(&connector, first..first + events, shown)));
        }
    }

    fn events_in_sqlite(&mut self, events: u64, time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        import(folder.path(), REGULARS);
        let recorded = Recorded { keys: REGULARS, events, scans_of_a_visit: 2 };
        rows::write(folder.path(), recorded);
        let (connector, start, resident) = start_repeatedly(&serve_file(folder.path()), folder.path());
        assert_eq!(record_count(&connector), events, "the events in the database");
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
        let (connector, start, resident) = start_repeatedly(&serve, folder.path());
        let fresh = self.idle_memory_by_engine[0].1;
        let each = resident.saturating_sub(fresh) as f64 / keys as f64;
        let new = ask(&connector, &Scans::New(Keys::badges(keys)), time);
        let what = format!("{} keys, memory", number(keys));
        self.add(Row { what, start: Some(start), resident, each: Some(each), disk: None, new, again: None });
    }

    fn keys_in_sqlite(&mut self, keys: u64, time: Duration) {
        let folder = TempDir::new_in(folder()).unwrap();
        self.import = (keys, import(folder.path(), Keys::badges(keys)));
        let (connector, start, resident) = start_repeatedly(&serve_file(folder.path()), folder.path());
        let disk = database_size(folder.path());
        let new = ask(&connector, &Scans::New(Keys::badges(keys)), time);
        let what = format!("{} keys, SQLite", number(keys));
        self.add(Row { what, start: Some(start), resident, each: None, disk: Some(disk), new, again: None });
    }
}

/// A number with spaces between groups of three digits.
pub(crate) fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(" ")
}

fn serve(storage: &str, directory: Option<&Path>) -> Command {
    let mut command = connector(storage);
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

/// Starts a connector several times, and leaves the last one running. Returns it, the median time of a start, and its
/// memory when idle.
fn start_repeatedly(serve: &dyn Fn() -> Command, folder: &Path) -> (Connector, Duration, u64) {
    let mut took = Vec::new();
    loop {
        let connector = Connector::start(serve(), folder);
        took.push(connector.ready_after);
        if took.len() == STARTS {
            took.sort_unstable();
            let resident = idle_resident(&connector);
            return (connector, took[STARTS / 2], resident);
        }
        connector.stop();
    }
}

/// Imports these keys into the database of a folder, and returns the time it took.
fn import(folder: &Path, badges: Keys) -> Duration {
    let file = badges.import_file(folder);
    let began = Instant::now();
    let output = connector(&sqlite(folder)).args(["import", "--create"]).arg(&file).output().unwrap();
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

/// The memory of an idle connector.
fn idle_resident(connector: &Connector) -> u64 {
    std::thread::sleep(REST);
    resident(connector.process())
}

/// Makes an idle connector decide these events, and returns the memory for each of them.
fn memory_for_each(connector: &Connector, events: Range<u64>, shown: &Shown) -> f64 {
    let (before, number) = (idle_resident(connector), events.end - events.start);
    events::decide(connector, events, shown);
    growth_for_each(before, resident(connector.process()), number)
}

fn growth_for_each(before: u64, after: u64, number: u64) -> f64 {
    (after as f64 - before as f64) / number as f64
}

fn record_count(connector: &Connector) -> u64 {
    figure(&connector.metrics(), "connector_ledger_records")
}

fn database_size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join(DATABASE)).unwrap().len()
}

/// The available memory of the machine, in bytes.
fn available() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
}
