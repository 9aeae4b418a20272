//! Settings that name a file, `storage.url` first of all. The path is used exactly as written, without surrounding
//! white space. If it is unusable, the start fails with exit code 64 and the name of the setting. Also errors in a
//! database URL that are found without connecting.

use crate::trials::{apply, test};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::command_line::open_files::run_until_ready;
use crate::support::{Ended, HASH_KEY, environment};

/// Runs `serve` in a folder, stops it once it is ready, and returns its exit code and log.
fn serve_and_stop(folder: &Path, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let ports = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0")];
    let mut command = Command::new("timeout");
    command
        .args(["--preserve-status", "60", env!("CARGO_BIN_EXE_identity-connector"), "serve"])
        .envs(environment(ports.iter().chain(settings)))
        .current_dir(folder);
    run_until_ready(command)
}

/// The relative paths of all files in a folder and its subfolders.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => found.push(entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    found.sort();
    found
}

#[apply(test)]
fn a_sqlite_path_is_used_exactly_as_written() {
    let paths = [
        "a:b/c.db",
        ":x:.db",
        "[x/c.db",
        "c^d/x.db",
        "c|d.db",
        "%41.db",
        "a%2Fb%00.db",
        "sp ace/#ü\\{x}.db",
        "file:x.db",
        "u@h:1/x.db",
    ];
    for path in paths {
        let folder = TempDir::new().unwrap();
        let url = format!("sqlite://{path}");
        let checked = Ended::run(&["check-config"], &[("storage.url", &url)]);
        assert_eq!(checked.code, Some(0), "{path}: {}", checked.stderr);
        let (code, log) = serve_and_stop(folder.path(), &[("storage.url", &url)]);
        assert_eq!(code, Some(0), "{path}: {log}");
        assert_eq!(files(folder.path()), files_of(path), "{path}");
        let content = std::fs::read(folder.path().join(path)).unwrap();
        assert!(content.starts_with(b"SQLite format 3\0"), "{path}");
    }
}

/// The files of a database after the connector has stopped.
fn files_of(path: &str) -> [String; 5] {
    ["", ".carts", ".carts.lock", ".key", ".lock"].map(|ending| format!("{path}{ending}"))
}

#[apply(test)]
fn white_space_around_a_path_is_ignored() {
    let folder = TempDir::new().unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "sqlite://data/c.db \t\r\n").unwrap();
    for setting in [
        ("storage.url", "  sqlite://data/c.db \r"),
        ("storage.url_file", file.path().to_str().unwrap()),
        ("storage.url_file", &format!("{}\r", file.path().display())),
    ] {
        let (code, log) = serve_and_stop(folder.path(), &[setting]);
        assert_eq!(code, Some(0), "{setting:?}: {log}");
        assert_eq!(files(folder.path()), files_of("data/c.db"), "{setting:?}");
    }
    let directory = folder.path().join("directory.json");
    std::fs::write(&directory, r#"{"stores":[{"id":"S"}]}"#).unwrap();
    let (code, log) =
        serve_and_stop(folder.path(), &[("storage.url", "memory: "), ("directory.file", " directory.json\r")]);
    assert!(code == Some(0) && log.contains("directory file imported"), "{log}");
}

#[apply(test)]
fn an_unusable_database_path_is_refused_and_no_file_is_created() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a database, but longer than the header of one").unwrap();
    std::fs::write(folder.path().join("short"), "x").unwrap();
    let before = files(folder.path());
    for (path, what) in [
        (":memory:", "use memory:"),
        ("folder", "is a folder: name a file in it, such as folder/connector.db"),
        ("folder/", "is a folder"),
        ("new/", "is a folder"),
        ("folder/..", "is a folder"),
        (".", "is a folder"),
        ("/dev/null", "is not a regular file"),
        ("x.db?mode=rwc", "must be only a path"),
        ("notes.txt", "is not a SQLite database"),
        ("short", "is not a SQLite database"),
    ] {
        for key in ["", HASH_KEY] {
            for subcommand in ["check-config", "serve", "export"] {
                let url = format!("sqlite://{path}");
                let output = Command::new(env!("CARGO_BIN_EXE_identity-connector"))
                    .arg(subcommand)
                    .envs(environment(&[("storage.url", url.as_str()), ("security.hash_key", key)]))
                    .current_dir(folder.path())
                    .output()
                    .unwrap();
                let error = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(64), "{subcommand} {path}: {error}");
                assert!(error.contains(&format!("storage.url: {path}: ")) || path.contains('?'), "{error}");
                assert!(error.contains(what), "{what} is missing from {error}");
                assert_eq!(files(folder.path()), before, "{subcommand} {path}");
            }
        }
    }
}

/// The file has the header of a SQLite database, so only SQLite detects the damage.
#[apply(test)]
fn a_damaged_sqlite_file_ends_the_start_with_64() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("c.db"), [&b"SQLite format 3\0"[..], &[0x5a; 4096]].concat()).unwrap();
    let settings = [("storage.url", "sqlite://c.db"), ("security.hash_key", HASH_KEY)];
    let (code, log) = serve_and_stop(folder.path(), &settings);
    assert!(code == Some(64) && log.contains("storage.url"), "{code:?}: {log}");
}

#[apply(test)]
fn a_missing_file_is_reported_with_the_name_of_its_setting() {
    let backend = ("directory.url", "http://127.0.0.1:1");
    let tls = [("tls.certificate", "Cargo.toml"), ("tls.key", "Cargo.toml")];
    let file_settings: [(&str, &[(&str, &str)]); 17] = [
        ("commerce.authorization_key_file", &[]),
        ("commerce.context_keys_file", &[]),
        ("commerce.signing_keys_file", &[]),
        ("directory.ca", &[backend]),
        ("directory.client_certificate", &[backend, ("directory.client_key", "Cargo.toml")]),
        ("directory.client_key", &[backend, ("directory.client_certificate", "Cargo.toml")]),
        ("directory.file", &[]),
        ("directory.token_file", &[backend]),
        ("management.token_file", &[]),
        ("rate_limit.url_file", &[]),
        ("scan_key.signing_keys_file", &[("scan_key.customer_prefix", "SHOP")]),
        ("security.hash_key_file", &[]),
        ("storage.url_file", &[]),
        ("telemetry.otlp_headers_file", &[]),
        ("tls.certificate", &tls),
        ("tls.client_authority", &tls),
        ("tls.key", &tls),
    ];
    let defaults = Ended::run(&["default-config"], &[]).stdout;
    let file_variants = defaults.lines().filter(|line| line.contains("_file = ")).count();
    assert_eq!(
        file_variants,
        file_settings.iter().filter(|(name, _)| name.ends_with("_file")).count(),
        "each `_file` setting is in the list"
    );
    for (name, others) in file_settings {
        for path in ["/nonexistent/file", "src", "src/\u{1}none"] {
            let settings: Vec<_> = others.iter().copied().chain([(name, path)]).collect();
            let ended = Ended::run(&["check-config"], &settings);
            assert_eq!(ended.code, Some(64), "{name} = {path}: {}", ended.stdout);
            assert!(ended.stderr.contains(name), "{name} = {path}: {}", ended.stderr);
        }
    }
    let variable = |path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_identity-connector"));
        command.arg("check-config").env("CONNECTOR_CONFIG", path).output().unwrap()
    };
    assert_eq!(variable("/nonexistent/c.toml").status.code(), Some(64));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[rate_limit]\nburst = 7\n").unwrap();
    let shown = String::from_utf8(variable(&format!(" {}\r", file.path().display())).stdout).unwrap();
    assert!(shown.contains("rate_limit.burst = 7 "), "{shown}");
    assert_eq!(variable(" \t").status.code(), Some(0), "a blank variable counts as unset");
}

fn check_config(url: &str) -> Ended {
    Ended::run(&["check-config"], &[("storage.url", url), ("security.hash_key", HASH_KEY)])
}

#[apply(test)]
fn a_missing_postgresql_certificate_is_reported_without_connecting() {
    for name in ["sslrootcert", "sslcert", "sslkey"] {
        let ended = check_config(&format!("postgres://u@127.0.0.1:1/d?sslmode=verify-full&{name}=/nonexistent/x.pem"));
        assert_eq!(ended.code, Some(64), "{name}: {}", ended.stdout);
        let what = format!("storage.url: {name} = \"/nonexistent/x.pem\": cannot be read: No such file");
        assert!(ended.stderr.contains(&what), "{}", ended.stderr);
    }
    let ended = check_config("postgres://u@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=Cargo.toml");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[apply(test)]
fn a_password_with_unescaped_characters_is_reported() {
    for url in [
        "postgres://u:hush/er@db.example.com/d",
        "postgres://u:12/hush@db.example.com/d",
        "postgres://u:p@hush/er@db.example.com/d",
        "postgres://u:hush?er@db.example.com/d",
        "postgres://u:12?hush@db.example.com/d",
        "postgres://u:12?a=hush@db.example.com/d",
        "postgres://u:hush#er@db.example.com/d",
        "postgresql://u:12#hush@db.example.com/d",
    ] {
        let ended = check_config(url);
        assert_eq!(ended.code, Some(64), "{url}: {}", ended.stdout);
        assert!(ended.stderr.contains("storage.url: ") && ended.stderr.contains("write @ as %40, / as %2F"), "{url}");
        assert!(!ended.stderr.contains("hush"), "{}", ended.stderr);
    }
    for url in [
        "postgres://u:p%40%2Fss@db.example.com/d",
        "postgres://u:p@ss@db.example.com:5432/d", // the last @ ends the password
        "postgres://db.example.com/d?user=u@server&password=p@ss",
        "postgres:///d?host=/run/postgresql",
    ] {
        let ended = check_config(url);
        assert_eq!(ended.code, Some(0), "{url}: {}", ended.stderr);
    }
}
