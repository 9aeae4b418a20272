//! `import` and `export` with databases: between engines, beside a running connector, and interrupted.

use crate::trials::{apply, on_databases, on_postgres};

use serde_json::json;
use tempfile::TempDir;

use crate::checks::*;
use crate::engine::{Database, Engine};
use crate::engines::hostile::hostile_texts;
use crate::support::{Ended, HASH_KEY, Process, Server, scan_with_key};

/// More rows than one batch of an import has.
const KEYS: usize = 2_000;
/// Fewer, where the number does not matter.
const FEW_KEYS: usize = 400;

/// A database and a folder for one test.
pub(crate) struct TestDatabase {
    url: String,
    folder: TempDir,
    /// On PostgreSQL. Removed together with this value.
    database: Option<Database>,
}

impl TestDatabase {
    pub(crate) fn new(engine: Engine) -> Self {
        let folder = TempDir::new().unwrap();
        let database = matches!(engine, Engine::Postgres).then(Database::new);
        let url = match &database {
            Some(database) => database.url().to_owned(),
            None => format!("sqlite://{}", folder.path().join("connector.db").display()),
        };
        Self { url, folder, database }
    }

    /// The database on PostgreSQL.
    pub(crate) fn postgres(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [("storage.url", &self.url), ("security.hash_key", HASH_KEY)]
    }

    /// The path and the content of every file in the folder, with invalid UTF-8 replaced.
    pub(crate) fn files(&self) -> Vec<(String, String)> {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path());
        let text = |file: &std::path::Path| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
        files.map(|file| (file.display().to_string(), text(&file))).collect()
    }

    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// Imports this content. Returns what the command prints.
    #[track_caller]
    pub(crate) fn import(&self, name: &str, content: &str) -> String {
        let ended = Ended::run(&["import", &self.file(name, content), "--create"], &self.settings());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    #[track_caller]
    pub(crate) fn export(&self, format: &str) -> String {
        let ended = Ended::run(&["export", "--format", format], &self.settings());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// A connector on this database, which adds the demo's data.
    async fn server(&self) -> Server {
        Server::demo(&self.settings()).await.resending_timed_out_scans()
    }

    /// A connector on this database with this directory file.
    pub(crate) async fn server_with(&self, directory: &str) -> Server {
        let file = self.file("directory.json", directory);
        Server::demo(&[&self.settings()[..], &[("directory.file", &file)]].concat()).await.resending_timed_out_scans()
    }
}

/// A store, shoppers, and ten keys for each shopper, with varied members.
fn many_rows(keys: usize) -> String {
    let shopper = |number: usize| {
        json!({ "shopper": {
            "id": format!("shopper {number}"),
            "type": (["SHOPPER", "ASSOCIATE", "CASH_SHOPPER"][number % 3]),
            "account": if number.is_multiple_of(7) { "flagged" } else { "active" },
            "paymentMethod": number.is_multiple_of(2).then(|| json!({ "lastMonth": "2020-01", "id": format!("card {number}") })),
            "devices": (0..number % 4).map(|device| format!("device {device}")).collect::<Vec<_>>(),
        } })
    };
    let key = |number: usize| {
        json!({ "identityKey": {
            "key": format!("badge {number}"),
            "shopper": format!("shopper {}", number / 10),
            "revoked": number.is_multiple_of(5),
            "channel": number.is_multiple_of(3).then_some("RADIO"),
            "device": (number / 10 % 4 > 1).then_some("device 1"),
        } })
    };
    let rows = [json!({ "store": { "id": "S", "takesCash": true } })].into_iter();
    let rows = rows.chain((0..keys).map(key)).chain((0..keys / 10).map(shopper));
    rows.map(|row| format!("{row}\n")).collect()
}

fn rows_with_hostile_names() -> String {
    let names = hostile_texts();
    let store = |name: &String| json!({ "store": { "id": name } });
    let shopper = |name: &String| {
        json!({ "shopper": {
            "id": name, "type": "SHOPPER", "devices": names, "paymentMethod": { "id": name, "lastMonth": "2099-12" },
        } })
    };
    let key = |(number, name): (usize, &String)| json!({ "identityKey": { "key": format!("key {number}"), "shopper": name, "device": name } });
    let rows = names.iter().map(store).chain(names.iter().map(shopper)).chain(names.iter().enumerate().map(key));
    rows.map(|row| format!("{row}\n")).collect()
}

#[apply(on_databases)]
async fn thousands_of_rows_are_imported_and_exported(engine: Engine) {
    let database = TestDatabase::new(engine);
    let rows = many_rows(KEYS);
    let all = KEYS + KEYS / 10 + 1;
    assert!(database.import("a.jsonl", &rows).contains(&format!(": {all} changed, 0 unchanged")));
    assert!(database.import("a.jsonl", &rows).contains(&format!(": 0 changed, {all} unchanged")));
    let (lines, table) = (database.export("jsonl"), database.export("csv"));
    assert_eq!((lines.lines().count(), table.lines().count()), (all + 1, all + 2));
    assert!(!lines.contains("badge") && !table.contains("badge"), "keys are not stored");
    for (name, content) in [("b.jsonl", &lines), ("b.csv", &table)] {
        assert!(database.import(name, content).contains(&format!(": 0 changed, {all} unchanged")));
    }
}

#[apply(on_databases)]
async fn hostile_names_are_imported_and_exported(engine: Engine) {
    let [database, by_lines, by_table] = [(); 3].map(|()| TestDatabase::new(engine));
    database.import("a.jsonl", &rows_with_hostile_names());
    let (lines, table) = (database.export("jsonl"), database.export("csv"));
    by_lines.import("a.jsonl", &lines);
    by_table.import("a.csv", &table);
    for again in [by_lines, by_table] {
        assert!(again.export("jsonl") == lines && again.export("csv") == table, "the export equals the import");
    }
}

#[apply(on_postgres)]
async fn export_of_one_engine_is_imported_by_another(_: Engine) {
    let [sqlite, postgres] = [Engine::Sqlite, Engine::Postgres].map(TestDatabase::new);
    sqlite.import("a.jsonl", &many_rows(FEW_KEYS));
    let lines = sqlite.export("jsonl");
    postgres.import("a.jsonl", &lines);
    assert!(postgres.export("jsonl") == lines, "byte for byte");
    let back = TestDatabase::new(Engine::Sqlite);
    back.import("a.csv", &postgres.export("csv"));
    assert!(back.export("jsonl") == lines, "also after the way back");
}

#[apply(on_postgres)]
async fn running_connector_sees_an_import(engine: Engine) {
    let database = TestDatabase::new(engine);
    let server = database.server().await;
    let body = || set(scan_with_key(b"badge 1"), "storeId", "S");
    assert_refused(&server.verify(&body()).await, 400, INVALID_STORE, "before the import");
    database.import("a.jsonl", &many_rows(FEW_KEYS).replace("\"RADIO\"", "null"));
    wait_until("the connector sees the import", async || server.verify(&body()).await.status != 400).await;
    assert_refused(&server.verify(&body()).await, 401, FLAGGED, "shopper 0 is flagged");
}

/// No table and no hash key may remain in the database: the correct key would not match a remaining one.
#[apply(on_postgres)]
async fn refused_command_leaves_an_empty_database_empty(_: Engine) {
    let source = TestDatabase::new(Engine::Sqlite);
    source.import("a.jsonl", &many_rows(FEW_KEYS));
    let export = source.export("jsonl");
    let database = TestDatabase::new(Engine::Postgres);
    let file = database.file("a.jsonl", &export);
    let wrong_hash_key = [("storage.url", database.url.as_str()), ("security.hash_key", OTHER_KEY)];
    let name = database.url.rsplit('@').next().unwrap();
    for (arguments, part) in [
        (&["import", &file, "--create"][..], "this file was exported with a different hash key"),
        (&["import", &file], "--create"),
        (&["export"], "no connector database found"),
    ] {
        let ended = Ended::run(arguments, &wrong_hash_key);
        assert_eq!(ended.code, Some(64), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
        assert_eq!(database.postgres().tables(), 0, "{arguments:?}");
    }
    let ended = Ended::run(&["import", &file, "--create"], &database.settings());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, format!("importing into postgres://{name}, a new database\n"));
    let ended = Ended::run(&["import", &file], &wrong_hash_key);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("was made with another hash key"), "{}", ended.stderr);
}

/// Another hash key than that of the tests.
const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

#[apply(on_postgres)]
async fn interrupted_import_can_be_repeated(engine: Engine) {
    let database = TestDatabase::new(engine);
    let postgres = database.postgres();
    database.import("none.jsonl", ""); // creates the schema
    let all = KEYS + KEYS / 10 + 1;
    let file = database.file("a.jsonl", &many_rows(KEYS));
    let imported = || {
        let count = "SELECT (SELECT count(*) FROM shopper) + (SELECT count(*) FROM store) + (SELECT count(*) FROM registration)";
        postgres.query(count).parse::<usize>().unwrap()
    };
    for signal in ["INT", "KILL"] {
        // The import is blocked at its first batch until the signal has been sent.
        let held = postgres.begin("SELECT * FROM directory_version FOR UPDATE");
        let process = Process::run(&["import", &file], &database.settings());
        wait_until("the import waits", async || postgres.waiting() > 0).await;
        process.signal(signal);
        drop(held);
        let ended = process.wait_for_end();
        if signal == "INT" {
            assert_eq!(ended.code, Some(1), "{ended:?}");
            assert!(ended.stderr.contains("stopped before the end"), "{ended:?}");
            assert!(ended.stdout.contains(&format!(": {} changed", imported())), "{ended:?}");
        }
        assert!(imported() < all, "{signal}: the import has completed before the signal");
    }
    let before = imported();
    let summary = database.import("a.jsonl", &many_rows(KEYS));
    assert!(summary.contains(&format!(": {} changed, {before} unchanged", all - before)), "{before}: {summary}");
    assert_eq!(imported(), all);
}
