//! `import` and `export` of the binary, with a SQLite file.

use crate::trials::{apply, test};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Ended, HASH_KEY, Process};

pub(crate) const TABLE: &str =
    "record,id,type,paymentMethodLastMonth,devices,key,token,shopper,device,channel,revoked,issuer,subject
store,STORE-001,,,,,,,,,,,
identityKey,,,,,hush-badge,,clerk,,RADIO,,,
customer,,,,,,,shopper-1,,,,https://hush,hush-subject
shopper,shopper-1,SHOPPER,2029-06,phone-1 phone-2,,,,,,,,
identityKey,,,,,hush-lost,,,,,TRUE,,
recognitionToken,,,,,,hushhushhushhushhushhushhushhush,shopper-1,phone-2,,,,
shopper,clerk,ASSOCIATE,,,,,,,,,,
";

/// The rows of [`TABLE`] as JSON lines, in another order.
fn json_lines() -> String {
    let rows = [
        json!({ "recognitionToken": { "token": "hush".repeat(8), "shopper": "shopper-1", "device": "phone-2" } }),
        json!({ "shopper": { "id": "clerk", "type": "ASSOCIATE" } }),
        json!({ "identityKey": { "key": "hush-lost", "revoked": true } }),
        json!({ "identityKey": { "key": "hush-badge", "shopper": "clerk", "channel": "RADIO", "device": null } }),
        json!({ "shopper": {
            "id": "shopper-1", "type": "SHOPPER", "paymentMethod": { "lastMonth": "2029-06" }, "devices": ["phone-1", "phone-2"],
        } }),
        json!({ "store": { "id": "STORE-001" } }),
        json!({ "customer": { "issuer": "https://hush", "subject": "hush-subject", "shopper": "shopper-1" } }),
    ];
    rows.map(|row| format!("{row}\n")).concat()
}

/// A folder with a SQLite database, which the first import creates.
pub(crate) struct Database {
    folder: TempDir,
    hash_key: &'static str,
}

impl Database {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), hash_key: HASH_KEY }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn url(&self) -> String {
        format!("sqlite://{}", self.path("connector.db"))
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        let ended = Ended::run(arguments, &[("storage.url", &self.url()), ("security.hash_key", self.hash_key)]);
        let output = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!output.contains("hush"), "{arguments:?} prints a key: {output}");
        ended
    }

    /// Imports a file with this name and content.
    pub(crate) fn import(&self, name: &str, content: impl AsRef<[u8]>, arguments: &[&str]) -> Ended {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        self.run(&[&["import", &path, "--create"], arguments].concat())
    }

    /// Imports a file, which must succeed, and returns the standard output.
    #[track_caller]
    pub(crate) fn import_successfully(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let ended = self.import(name, content, &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let line = ended.stderr.strip_prefix(&format!("importing into {}", self.url())).unwrap();
        assert!(["\n", ", a new database\n"].contains(&line), "no progress bar without a terminal: {}", ended.stderr);
        ended.stdout
    }

    /// The content of the database, as an export.
    #[track_caller]
    pub(crate) fn export(&self, arguments: &[&str]) -> String {
        let ended = self.run(&[&["export"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// Imports a file, which must fail with this exit code and message, and must change nothing.
    #[track_caller]
    pub(crate) fn assert_import_refused(&self, name: &str, content: impl AsRef<[u8]>, code: i32, what: &str) {
        let before = Path::new(&self.path("connector.db")).exists().then(|| self.export(&[]));
        let ended = self.import(name, content, &[]);
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(what), "{what} is not in {}", ended.stderr);
        if let Some(before) = before {
            assert_eq!(self.export(&[]), before, "something was imported");
        }
    }
}

#[apply(test)]
fn a_table_and_json_lines_import_the_same_rows_in_any_order() {
    let (table, lines) = (Database::new(), Database::new());
    let output = table.import_successfully("a.csv", TABLE);
    assert!(
        output.starts_with(
            "imported 1 store, 2 shoppers, 2 identity keys, 1 recognition token, 1 customer: 7 changed, 0 unchanged"
        ),
        "{output}"
    );
    lines.import_successfully("a.ndjson", json_lines());
    assert_eq!(table.export(&[]), lines.export(&[]));
    assert_eq!(table.export(&["--format", "csv"]), lines.export(&["--format", "csv"]));
    let rows: Vec<Value> = table.export(&[]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&String> = rows.iter().flat_map(|row| row.as_object().unwrap().keys()).collect();
    let sorted =
        ["export", "store", "shopper", "shopper", "identityKey", "identityKey", "recognitionToken", "customer"];
    assert_eq!(kinds, sorted);
    assert_eq!(rows[2]["shopper"]["id"], "clerk");
}

#[apply(test)]
fn an_import_changes_only_rows_that_are_new_or_different() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let before = database.export(&[]);
    assert!(database.import_successfully("a.csv", TABLE).contains(": 0 changed, 7 unchanged"));
    assert!(database.import_successfully("a.jsonl", &before).contains(": 0 changed, 7 unchanged"));
    assert_eq!(database.export(&[]), before);
    let more = "record,id,type,key,shopper\nidentityKey,,,hush-new,clerk\nshopper,clerk,SHOPPER,,\n";
    assert!(database.import_successfully("b.csv", more).contains(": 2 changed, 0 unchanged"));
}

#[apply(test)]
fn byte_order_marks_and_windows_line_ends_are_accepted() {
    let (unix, windows) = (Database::new(), Database::new());
    unix.import_successfully("a.csv", TABLE);
    let dos = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    windows.import_successfully("a.csv", dos(TABLE));
    assert_eq!(unix.export(&[]), windows.export(&[]));
    assert!(windows.import_successfully("a.jsonl", dos(&json_lines())).contains(": 0 changed, 7 unchanged"));
    windows.assert_import_refused("b.csv", dos("record,id\nstore,S\n\nstore,\n"), 1, "line 4: store");
    windows.assert_import_refused("c.csv", b"\xff\xfer\0e\0c\0o\0r\0d\0", 64, "UTF-16");
}

#[apply(test)]
fn an_export_replaces_the_output_file_and_only_the_owner_can_read_it() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    for (name, format) in [("out.csv", "csv"), ("out.JSONL", "jsonl")] {
        let path = database.path(name);
        std::fs::write(&path, "old content").unwrap();
        assert_eq!(database.export(&["--output", &path]), "");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), database.export(&["--format", format]));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!Path::new(&format!("{path}.part")).exists());
    }
}

#[apply(test)]
fn digests_are_valid_only_with_the_hash_key_that_made_them() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let (lines, table) = (database.export(&[]), database.export(&["--format", "csv"]));
    let other_database = Database { hash_key: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", ..Database::new() };
    other_database.assert_import_refused("a.jsonl", &lines, 64, "security.hash_key");
    other_database.assert_import_refused("a.csv", &table, 64, "security.hash_key");
    let (_, without) = lines.split_once('\n').unwrap();
    for database in [&database, &other_database] {
        database.assert_import_refused("a.jsonl", without, 1, "line 4: identityKey.digest");
    }
    let later = lines.replace("\"version\":1", "\"version\":2,\"hush\":true");
    database.assert_import_refused("a.jsonl", later, 64, "version 2");
    database.assert_import_refused(
        "a.jsonl",
        format!("{lines}{lines}"),
        1,
        "line 9: export: is allowed in the first row only",
    );
    let again = Database::new();
    again.import_successfully("a.csv", &table);
    assert_eq!(again.export(&[]), lines);
}

#[apply(test)]
fn an_impossible_import_or_export_exits_with_64() {
    let database = Database::new();
    let ended = database.run(&["import", &database.path("none.csv")]);
    assert!(ended.code == Some(64) && ended.stderr.contains("none.csv"), "{}", ended.stderr);
    database.assert_import_refused("a.txt", TABLE, 64, "--format");
    assert_eq!(database.import("a.txt", TABLE, &["--format", "csv"]).code, Some(0));
    assert_eq!(database.run(&["import", "/dev/null", "--format", "csv"]).code, Some(64));
    database.assert_import_refused(
        "a.csv",
        TABLE.trim_start_matches("record,"),
        64,
        "line 1, the header: the first column must be record",
    );
    database.assert_import_refused(
        "a.csv",
        format!("{TABLE}store,{}", "hush".repeat(300_000)),
        64,
        "line 9: this row is longer than 1 MiB",
    );
    let empty = Database::new();
    let ended = empty.run(&["export"]);
    assert!(ended.code == Some(64) && !Path::new(&empty.path("connector.db")).exists(), "{}", ended.stderr);
    for command in [&["import", &database.path("a.csv")][..], &["export"]] {
        let ended = Ended::run(command, &[("storage.url", "memory:")]);
        assert!(ended.code == Some(64) && ended.stderr.contains("storage.url: memory:"), "{}", ended.stderr);
    }
}

/// The names of the files in the folder of this database.
fn file_names(database: &Database) -> Vec<String> {
    let names = std::fs::read_dir(database.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[apply(test)]
fn a_new_database_is_created_only_with_create() {
    let database = Database::new();
    let path = database.path("a.csv");
    std::fs::write(&path, TABLE).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::write(database.path("connector.db"), "").unwrap();
        }
        let before = file_names(&database);
        let ended = database.run(&["import", &path]);
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        for part in [&database.url(), "no connector database found", "--create"] {
            assert!(ended.stderr.contains(part), "{part}: {}", ended.stderr);
        }
        assert_eq!(file_names(&database), before);
    }
    database.import_successfully("a.csv", TABLE);
    assert_eq!(database.run(&["import", &path]).code, Some(0), "the database exists now");
    database.import_successfully("a.csv", TABLE);
}

#[apply(test)]
fn a_refused_import_creates_no_database() {
    let source = Database::new();
    source.import_successfully("a.csv", TABLE);
    let export = source.export(&[]);
    let other_database = Database { hash_key: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", ..Database::new() };
    let keyless = Database { hash_key: "", ..Database::new() };
    for database in [&other_database, &keyless] {
        database.assert_import_refused("a.jsonl", &export, 64, "security.hash_key");
        database.assert_import_refused("a.jsonl", "{\"store\":{}}\n", 1, "line 1: store");
        database.assert_import_refused("a.jsonl", b"\xff\xfe{\0", 64, "UTF-16");
        assert_eq!(file_names(database), ["a.jsonl"]);
    }
    let right = Database { hash_key: HASH_KEY, ..other_database };
    assert!(right.import_successfully("a.jsonl", &export).contains(": 7 changed"));
}

#[apply(test)]
async fn import_and_export_are_refused_while_a_connector_uses_the_file() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let before = database.export(&[]);
    let running = Process::start("serve", &[("storage.url", &database.url()), ("security.hash_key", HASH_KEY)]).await;
    for command in [&["import", &database.path("a.csv")][..], &["export"]] {
        let ended = database.run(command);
        assert!(ended.code == Some(64) && ended.stderr.contains("in use by another connector"), "{}", ended.stderr);
    }
    running.signal("TERM");
    assert_eq!(running.wait_for_end().code, Some(0));
    assert_eq!(database.export(&[]), before);
}
