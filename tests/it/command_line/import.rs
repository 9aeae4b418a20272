//! `import` and `export` of the binary, with a SQLite file: exit codes, messages, which files are created.
//! `src/transfer/import_tests.rs` has the rules for rows.

use crate::trials::{apply, test};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Ended, HASH_KEY, Process};

const TABLE: &str = "record,id,type,devices,key,shopper,device
store,STORE-001,,,,,
identityKey,,,,hush-badge,clerk,
shopper,clerk,ASSOCIATE,phone-1,,,
";

/// A folder with a SQLite database, which the first import creates.
struct Database {
    folder: TempDir,
    hash_key: &'static str,
}

impl Database {
    fn new() -> Self {
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
    fn import(&self, name: &str, content: impl AsRef<[u8]>, arguments: &[&str]) -> Ended {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        self.run(&[&["import", &path, "--create"], arguments].concat())
    }

    /// Imports a file, which must succeed, and returns the standard output.
    #[track_caller]
    fn import_successfully(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let ended = self.import(name, content, &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let line = ended.stderr.strip_prefix(&format!("importing into {}", self.url())).unwrap();
        assert!(["\n", ", a new database\n"].contains(&line), "no progress bar without a terminal: {}", ended.stderr);
        ended.stdout
    }

    /// The content of the database, as an export.
    #[track_caller]
    fn export(&self, arguments: &[&str]) -> String {
        let ended = self.run(&[&["export"], arguments].concat());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// The names of the files in the folder of this database.
    fn file_names(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[track_caller]
fn assert_refused(ended: &Ended, code: i32, what: &str) {
    assert!(
        ended.code == Some(code) && ended.stderr.contains(what),
        "{what} is not in {:?} {}",
        ended.code,
        ended.stderr
    );
}

#[apply(test)]
fn an_import_reports_what_it_changed_and_bad_rows() {
    let database = Database::new();
    let output = database.import_successfully("a.csv", TABLE);
    let counts =
        "imported 1 store, 1 shopper, 1 identity key, 0 recognition tokens, 0 customers: 3 changed, 0 unchanged";
    assert!(output.starts_with(counts), "{output}");
    let before = database.export(&[]);
    assert!(database.import_successfully("a.NDJSON", &before).contains(": 0 changed, 3 unchanged"));

    let keys: String = (1..=40).map(|number| format!("identityKey,,,,hush-{number},unknown,\n")).collect();
    let bad = format!("{TABLE}{keys}store,S ,,,,,\n");
    let refused = database.import("b.csv", &bad, &[]);
    assert_refused(&refused, 1, "40 rows cannot be imported:\n  line 5: identityKey.shopper: no such shopper");
    assert_refused(
        &refused,
        1,
        "line 24: identityKey.shopper: no such shopper in the file or the directory\n  and 20 more",
    );
    assert_refused(&refused, 1, "1 row may contain a mistake:\n  line 45: store.id: begins or ends with whitespace");
    assert_refused(&refused, 1, "nothing was imported: fix these rows, or pass --skip-bad-rows");
    assert_eq!((refused.stdout.as_str(), database.export(&[])), ("", before));
    let skipped = database.import("b.csv", &bad, &["--skip-bad-rows"]);
    assert_refused(&skipped, 0, "40 rows cannot be imported");
    assert!(skipped.stdout.contains("1 changed, 3 unchanged, 40 skipped; 4 rows in "), "{}", skipped.stdout);
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
fn an_impossible_import_or_export_exits_with_64() {
    let database = Database::new();
    assert_refused(&database.run(&["import", &database.path("none.csv")]), 64, "none.csv");
    assert_refused(&database.import("a.txt", TABLE, &[]), 64, "--format");
    assert_refused(&database.run(&["export"]), 64, "no connector database found");
    assert_eq!(database.file_names(), ["a.txt"], "no command has created a database");
    assert_eq!(database.import("a.txt", TABLE, &["--format", "csv"]).code, Some(0));
    assert_refused(&database.run(&["import", "/dev/null", "--format", "csv"]), 64, "is not a regular file");
    assert_refused(&database.import("a.csv", &TABLE[7..], &[]), 64, "line 1, the header");
    assert!(database.import("directory.json", r#"{ "stores": [{ "id": "T" }] }"#, &[]).stdout.contains(": 1 changed"));
    for command in [&["import", &database.path("a.csv")][..], &["export"]] {
        assert_refused(&Ended::run(command, &[("storage.url", "memory:")]), 64, "storage.url: memory:");
    }
}

#[apply(test)]
fn a_new_database_is_created_only_with_create_and_a_valid_file() {
    let source = Database::new();
    let path = source.path("a.csv");
    std::fs::write(&path, TABLE).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::write(source.path("connector.db"), "").unwrap();
        }
        let before = source.file_names();
        let ended = source.run(&["import", &path]);
        for part in [&source.url(), "no connector database found", "--create"] {
            assert_refused(&ended, 64, part);
        }
        assert_eq!(source.file_names(), before);
    }
    source.import_successfully("a.csv", TABLE);
    assert_eq!(source.run(&["import", &path]).code, Some(0), "the database exists now");

    let export = source.export(&[]);
    let other_database = Database { hash_key: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", ..Database::new() };
    let keyless = Database { hash_key: "", ..Database::new() };
    for database in [&other_database, &keyless] {
        assert_refused(&database.import("a.jsonl", &export, &[]), 64, "security.hash_key");
        assert_refused(&database.import("a.jsonl", "{\"store\":{}}\n", &[]), 1, "line 1: store");
        assert_refused(&database.import("a.jsonl", b"\xff\xfe{\0", &[]), 64, "UTF-16");
        assert_eq!(database.file_names(), ["a.jsonl"]);
    }
    let right = Database { hash_key: HASH_KEY, ..other_database };
    assert!(right.import_successfully("a.jsonl", &export).contains(": 3 changed"));
}

#[apply(test)]
async fn import_and_export_are_refused_while_a_connector_uses_the_file() {
    let database = Database::new();
    database.import_successfully("a.csv", TABLE);
    let before = database.export(&[]);
    let running = Process::start("serve", &[("storage.url", &database.url()), ("security.hash_key", HASH_KEY)]).await;
    for command in [&["import", &database.path("a.csv")][..], &["export"]] {
        assert_refused(&database.run(command), 64, "in use by another connector");
    }
    assert_eq!(running.stop().code, Some(0));
    assert_eq!(database.export(&[]), before);
}
