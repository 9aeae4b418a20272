//! `import` and `export` on databases: what one engine has written another reads, connectors that run see it, and it can be ended at any
//! time.

use std::process::{Child, Command, Stdio};

use libtest_mimic::Trial;
use serde_json::json;
use tempfile::TempDir;

use crate::checks::*;
use crate::engine::{Database, Engine, on_a_postgres_of_its_own, on_postgres, on_sqlite, postgres, properties};
use crate::hostile::hostile;
use crate::outage::until;
use crate::support::{Ended, HASH_KEY, Postgres, Server, environment, scan_with_key};

pub(crate) fn trials() -> Vec<Trial> {
    let everywhere = properties![thousands_of_rows_come_in_and_out_again, hostile_names_come_in_and_out_again];
    [
        on_sqlite(module_path!(), everywhere),
        on_postgres(module_path!(), everywhere),
        on_postgres(
            module_path!(),
            properties![
                what_one_engine_has_written_another_reads,
                a_connector_that_runs_sees_it,
                a_refused_command_leaves_an_empty_database_empty,
            ],
        ),
        on_a_postgres_of_its_own(module_path!(), properties![an_import_that_is_ended_can_be_made_again]),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const KEYS: usize = 5_000;

/// A database and a folder of one's own.
pub(crate) struct Place {
    url: String,
    folder: TempDir,
    /// Dropped with it.
    _database: Option<Database>,
}

impl Place {
    pub(crate) fn new(engine: Engine) -> Self {
        let folder = TempDir::new().unwrap();
        let database = matches!(engine, Engine::Postgres).then(Database::new);
        let url = match &database {
            Some(database) => database.url().to_owned(),
            None => format!("sqlite://{}", folder.path().join("connector.db").display()),
        };
        Self { url, folder, _database: database }
    }

    /// On a database of a server of one's own.
    pub(crate) fn on(url: String) -> Self {
        Self { url, folder: TempDir::new().unwrap(), _database: None }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn settings(&self) -> [(&str, &str); 2] {
        [("storage.url", &self.url), ("security.hash_key", HASH_KEY)]
    }

    /// Every file in its folder, as text where it is none.
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

    /// What an import of this content says.
    #[track_caller]
    pub(crate) fn import(&self, name: &str, content: &str) -> String {
        let ended = Ended::of(&["import", &self.file(name, content), "--create"], &self.settings());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    #[track_caller]
    pub(crate) fn export(&self, format: &str) -> String {
        let ended = Ended::of(&["export", "--format", format], &self.settings());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// A connector on it, which adds the demo's data.
    async fn server(&self) -> Server {
        Server::demo(&self.settings()).await.sending_again()
    }

    /// The same, which knows those in this directory file instead.
    pub(crate) async fn server_with(&self, directory: &str) -> Server {
        let file = self.file("directory.json", directory);
        Server::demo(&[&self.settings()[..], &[("directory.file", &file)]].concat()).await.sending_again()
    }
}

/// A store, shoppers, and a key for each tenth part of them, each row in its own way.
fn many() -> String {
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
    let rows = rows.chain((0..KEYS).map(key)).chain((0..KEYS / 10).map(shopper));
    rows.map(|row| format!("{row}\n")).collect()
}

fn of_hostile_names() -> String {
    let names = hostile();
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

async fn thousands_of_rows_come_in_and_out_again(engine: Engine) {
    let place = Place::new(engine);
    let rows = many();
    let all = KEYS + KEYS / 10 + 1;
    assert!(place.import("a.jsonl", &rows).contains(&format!(": {all} changed, 0 unchanged")));
    assert!(place.import("a.jsonl", &rows).contains(&format!(": 0 changed, {all} unchanged")));
    let (lines, table) = (place.export("jsonl"), place.export("csv"));
    assert_eq!((lines.lines().count(), table.lines().count()), (all + 1, all + 2));
    assert!(!lines.contains("badge") && !table.contains("badge"), "keys are not known");
    for (name, content) in [("b.jsonl", &lines), ("b.csv", &table)] {
        assert!(place.import(name, content).contains(&format!(": 0 changed, {all} unchanged")));
    }
}

async fn hostile_names_come_in_and_out_again(engine: Engine) {
    let [place, by_lines, by_table] = [(); 3].map(|()| Place::new(engine));
    place.import("a.jsonl", &of_hostile_names());
    let (lines, table) = (place.export("jsonl"), place.export("csv"));
    by_lines.import("a.jsonl", &lines);
    by_table.import("a.csv", &table);
    for again in [by_lines, by_table] {
        assert!(again.export("jsonl") == lines && again.export("csv") == table, "it came out as it went in");
    }
}

async fn what_one_engine_has_written_another_reads(_: Engine) {
    let [sqlite, postgres] = [Engine::Sqlite, Engine::Postgres].map(Place::new);
    sqlite.import("a.jsonl", &many());
    let lines = sqlite.export("jsonl");
    postgres.import("a.jsonl", &lines);
    assert!(postgres.export("jsonl") == lines, "to the byte");
    let back = Place::new(Engine::Sqlite);
    back.import("a.csv", &postgres.export("csv"));
    assert!(back.export("jsonl") == lines, "and back");

    let servers = [sqlite.server().await, postgres.server().await];
    let mut statuses = std::collections::BTreeSet::new();
    for number in (0..KEYS + 20).step_by(19) {
        for channel in ["OPTICAL", "RADIO"] {
            let key = format!("badge {number}");
            let body = set(set(scan_with_key(key.as_bytes()), "storeId", "S"), "keyChannel", channel);
            let answers = [servers[0].verify(&body).await, servers[1].verify(&body).await];
            assert_all_same(&answers);
            statuses.insert((answers[0].status, answers[0].message()));
        }
    }
    assert!(statuses.len() >= 5, "of many kinds: {statuses:?}");
}

async fn a_connector_that_runs_sees_it(engine: Engine) {
    let place = Place::new(engine);
    let server = place.server().await;
    let body = || set(scan_with_key(b"badge 1"), "storeId", "S");
    assert_refused(&server.verify(&body()).await, 400, INVALID_STORE, "before");
    place.import("a.jsonl", &many().replace("\"RADIO\"", "null"));
    until(PATIENCE, "it is seen", async || server.verify(&body()).await.status != 400).await;
    assert_refused(&server.verify(&body()).await, 401, FLAGGED, "shopper 0 is flagged");
}

/// Neither a table nor a hash key, which the right one would then not fit.
async fn a_refused_command_leaves_an_empty_database_empty(_: Engine) {
    let source = Place::new(Engine::Sqlite);
    source.import("a.jsonl", &many());
    let export = source.export("jsonl");
    let place = Place::new(Engine::Postgres);
    let file = place.file("a.jsonl", &export);
    let wrong = [("storage.url", place.url.as_str()), ("security.hash_key", OTHER_KEY)];
    let name = place.url.rsplit('@').next().unwrap();
    for (arguments, part) in [
        (&["import", &file, "--create"][..], "this file was exported under another hash key"),
        (&["import", &file], "--create"),
        (&["export"], "there is no connector's database"),
    ] {
        let ended = Ended::of(arguments, &wrong);
        assert_eq!(ended.code, Some(64), "{arguments:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(part), "{arguments:?}: {}", ended.stderr);
        assert_eq!(tables(&place), "0", "{arguments:?}");
    }
    let ended = Ended::of(&["import", &file, "--create"], &place.settings());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr, format!("importing into postgres://{name}, a new database\n"));
    let ended = Ended::of(&["import", &file], &wrong);
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("was made with another hash key"), "{}", ended.stderr);
}

/// How many tables a PostgreSQL database has.
fn tables(place: &Place) -> String {
    let count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    postgres().query(&place.url, count).trim().to_owned()
}

/// A hash key that is not the one of the tests.
const OTHER_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// An import or export in a process of its own, which is to end by itself.
pub(crate) fn started(place: &Place, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_identity-connector"))
        .args(arguments)
        .envs(environment(&place.settings()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

async fn an_import_that_is_ended_can_be_made_again(server: Postgres) {
    let place = Place::on(server.database());
    place.import("none.jsonl", ""); // makes the schema
    let all = KEYS + KEYS / 10 + 1;
    let file = place.file("a.jsonl", &many());
    let imported = || {
        let count = "SELECT (SELECT count(*) FROM shopper) + (SELECT count(*) FROM store) + (SELECT count(*) FROM registration)";
        server.query(&place.url, count).trim().parse::<usize>().unwrap()
    };
    for signal in ["INT", "KILL"] {
        // Held at its first batch until the signal is on its way.
        let held = server.begin(&place.url, "SELECT * FROM directory_version FOR UPDATE");
        let child = started(&place, &["import", &file]);
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        until(PATIENCE, "it waits", async || server.query(&place.url, waits).trim() != "0").await;
        let kill = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        drop(held);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        if signal == "INT" {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("stopped before the end"), "{said}");
            let summary = String::from_utf8(output.stdout).unwrap();
            assert!(summary.contains(&format!(": {} changed", imported())), "{summary}");
        }
        assert!(imported() < all, "{signal}: it was to be ended early");
    }
    let before = imported();
    let said = place.import("a.jsonl", &many());
    assert!(said.contains(&format!(": {} changed, {before} unchanged", all - before)), "{before}: {said}");
    assert_eq!(imported(), all);
}
