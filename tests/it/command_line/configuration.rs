//! Configuration and usage as an operator sees them: exit codes, sources, what `check-config` prints, files that cannot
//! be used. `src/config/tests` has the rules for each setting.

use crate::trials::{apply, test};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::command_line::open_files::run_until_ready;
use crate::support::{Ended, HASH_KEY, Process, environment, file_with};

const FREE_PORTS: [(&str, &str); 2] = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0")];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Exit code and output of the binary with these environment variables.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_identity-connector"));
    let Output { status, stdout, stderr } = command.args(arguments).envs(variables.iter().copied()).output().unwrap();
    (status.code(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[apply(test)]
fn all_mistakes_are_reported_together_with_exit_code_64() {
    let settings = [
        ("server.bind", "localhost:80"),
        ("server.bnd", "127.0.0.1:1"),
        ("server.callers.amazon.api_key_sha256", "short-secret"),
        ("rate_limit.burst", "many"),
        ("storage.url", "mysql://u:short-secret@localhost"),
        ("management.token", "short-secret"),
        ("commerce.enabled", "true"),
        ("commerce.authorization_key", "short-secret"),
        ("directory.url", "http://u:short-secret@localhost"),
        ("telemetry.otlp_headers", "short-secret"),
        ("tls.certificate", "/nonexistent"),
        ("tls.key", "/nonexistent"),
        ("log.level", "loud"),
    ];
    for subcommand in ["check-config", "serve"] {
        let ended = Ended::run(&[subcommand], &settings);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""), "errors go to standard error");
        let error = ended.error();
        let required = ("commerce.signing_keys", "");
        for (setting, _) in settings.iter().chain([&required]).filter(|(setting, _)| *setting != "commerce.enabled") {
            let is_named = [" = ", ": "].iter().any(|next| error.contains(&format!("\n  {setting}{next}")));
            assert!(is_named, "{setting} is missing from {error}");
        }
        assert!(!ended.stderr.contains("short-secret"), "{error}");
    }
}

#[apply(test)]
fn check_config_shows_settings_sources_and_warnings_and_no_secret() {
    let directory = file_with(
        r#"{
        "stores": [{ "id": "S", "defaultGateDecision": "open" }],
        "recognitionTokens": [{ "token": "0123456789abcdef0123456789abcdef", "revoked": true }]
    }"#,
    );
    let config = file_with("[rate_limit]\nburst = 7\nrequests_per_second = 1000\n[log]\nlevel = 'warn'\n");
    let path = text(config.path());
    let settings = [
        ("directory.file", text(directory.path())),
        ("log.level", "debug"),
        ("management.token", "a-secret-of-sixteen-or-more"),
    ];
    let check = |settings: &[(&str, &str)]| {
        let ended = Ended::run(&["check-config", "--config", path], settings);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended.stdout
    };
    let shown = check(&settings);
    let lines: Vec<String> = shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let no_prefix = "Warning: the directory has recognition tokens, but scan_key.customer_prefix is not set";
    for wanted in [
        "server.bind = \"127.0.0.1:8080\"",
        "log.level = \"debug\" # CONNECTOR__LOG__LEVEL; default \"info\"",
        "management.token = (hidden) # CONNECTOR__MANAGEMENT__TOKEN; default \"\"",
        &format!("rate_limit.burst = 7 # {path}; default 2000"),
        "rate_limit.requests_per_second = 1000",
        "The configuration is valid. The directory file has 1 store, 0 identity keys and 1 recognition token.",
        "Warning: 1 store has the default gate decision open. Its gates open when a scan gets a 500.",
    ] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted} is not in {shown}");
    }
    assert!(shown.contains(no_prefix) && !shown.contains("a-secret"), "{shown}");
    assert!(!check(&[settings[0], ("scan_key.customer_prefix", "SHOP")]).contains(no_prefix));
    let missing = Ended::run(&["check-config"], &[("directory.file", "/nonexistent/d.json")]);
    assert!(missing.code == Some(64) && missing.stderr.contains("/nonexistent/d.json"), "{}", missing.stderr);
}

#[apply(test)]
fn every_subcommand_reads_the_file_of_connector_config() {
    let (bad, good) = (file_with("[server]\nbnd = 1\n"), file_with("[rate_limit]\nburst = 7\n"));
    let bad = ("CONNECTOR_CONFIG", text(bad.path()));
    let token = "0123456789abcdef0123456789abcdef";
    for arguments in [
        &["serve"][..],
        &["demo"],
        &["demo", "--publish"],
        &["healthcheck"],
        &["check-config"],
        &["check-config", "--probe", "http://127.0.0.1:1"],
        &["import", "Cargo.toml", "--format", "csv"],
        &["export"],
        &["scan-key", "--token", token],
        &["scan-key", "pattern"],
        &["gate", "--url", "http://127.0.0.1:1", "--token", token],
    ] {
        let (code, output) = run(arguments, &[bad]);
        assert!(code == Some(64) && output.contains("server.bnd: unknown setting"), "{arguments:?}: {output}");
    }
    for (arguments, variable, burst) in [
        (&["check-config", "--config", text(good.path())][..], bad.1, "7 "), // --config wins
        (&["check-config"], &format!(" {}\r", text(good.path())), "7 "),
        (&["check-config"], " \t", "2000\n"), // a blank variable counts as unset
    ] {
        let (code, output) = run(arguments, &[("CONNECTOR_CONFIG", variable)]);
        assert!(code == Some(0) && output.contains(&format!("rate_limit.burst = {burst}")), "{variable:?}: {output}");
    }
    assert_eq!(run(&["serve"], &[("CONNECTOR_CONFIG", "/nonexistent/c.toml")]).0, Some(64));
}

#[apply(test)]
async fn taken_ports_are_reported_with_variables_for_free_ports() {
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [api, management] = taken.each_ref().map(|taken| taken.local_addr().unwrap().to_string());
    let one = Ended::run(&["demo"], &[("server.bind", &api), ("management.bind", "127.0.0.1:0")]);
    assert!(one.code == Some(1) && !one.stderr.contains("CONNECTOR__MANAGEMENT__BIND"), "{}", one.stderr);
    let ended = Ended::run(&["demo"], &[("server.bind", &api), ("management.bind", &management)]);
    assert_eq!(ended.code, Some(1), "the port may become free, so this is not a usage error: {}", ended.stderr);
    for line in [format!("server.bind = {api}: another process"), format!("management.bind = {management}: another")] {
        assert!(ended.stderr.contains(&line), "{line}\n{}", ended.stderr);
    }
    let variables: Vec<_> = ended.stderr.lines().last().unwrap().trim().split(['=', ' ']).collect();
    let &["CONNECTOR__SERVER__BIND", api, "CONNECTOR__MANAGEMENT__BIND", management] = variables.as_slice() else {
        panic!("{variables:?}")
    };
    let demo = Process::demo(&[("server.bind", api), ("management.bind", management)]).await;
    assert_eq!(demo.api, format!("http://{api}"));
    demo.wait_for_output(&format!("  API         {}", demo.api));
}

/// The user that runs the connector if root runs the tests. Otherwise it is the user who runs the tests.
const UNPRIVILEGED: u32 = 65534;

#[apply(test)]
fn a_permission_error_has_the_file_the_user_and_the_command_that_fixes_it() {
    let folder = TempDir::new().unwrap();
    let mode = |path: &str, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [program, closed, key, data] = ["identity-connector", "closed", "key", "data"].map(path);
    std::fs::copy(env!("CARGO_BIN_EXE_identity-connector"), &program).unwrap();
    std::fs::write(&closed, "").unwrap();
    std::fs::write(&key, "").unwrap();
    std::fs::create_dir(&data).unwrap();
    mode(text(folder.path()), 0o755);
    mode(&data, 0o555);
    mode(&closed, 0o000);
    let own = std::fs::metadata("/proc/self").unwrap().uid();
    let (uid, command) =
        if own == 0 { (UNPRIVILEGED, format!("chown {UNPRIVILEGED}")) } else { (own, "chmod u+rwX".into()) };
    let error_of_refused_start = |settings: &[(&str, &str)]| {
        let mut run = if own == 0 { Command::new("setpriv") } else { Command::new(&program) };
        if own == 0 {
            run.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", &program]);
        }
        let variables = environment(FREE_PORTS.iter().chain(settings));
        let output = run.arg("serve").envs(variables).current_dir(&data).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{settings:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let database = format!("sqlite://{data}/connector.db");
    for (settings, file) in [
        (vec![("tls.certificate", key.as_str()), ("tls.key", closed.as_str())], &closed),
        (vec![("management.token_file", closed.as_str())], &closed),
        (vec![("directory.file", closed.as_str()), ("storage.url", "memory:")], &closed),
        (vec![("storage.url", database.as_str())], &data),
    ] {
        let error = error_of_refused_start(&settings);
        let help =
            format!("Permission denied (os error 13): this process runs as uid {uid}; to fix it: {command} {file}");
        assert!(error.contains(&help), "{settings:?}: {error}");
    }
    // The default is sqlite://data/connector.db. This user cannot create its folder, so the command has its full path.
    if own == 0 {
        let error = error_of_refused_start(&[]);
        assert!(error.contains(&format!("install -d -m 0700 -o {uid} {data}/data")), "{error}");
        let error = error_of_refused_start(&[("storage.url", "sqlite:///etc/connector.db")]);
        assert!(!error.contains("chown") && error.contains("use a file in a separate folder"), "{error}");
    }
}

/// Runs `serve` in a folder, stops it once it is ready, and returns its exit code and log.
fn serve_and_stop(folder: &Path, settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new("timeout");
    command
        .args(["--preserve-status", "60", env!("CARGO_BIN_EXE_identity-connector"), "serve"])
        .envs(environment(FREE_PORTS.iter().chain(settings)))
        .current_dir(folder);
    run_until_ready(command)
}

/// The relative paths of all files in a folder and its subfolders.
fn files(folder: &Path) -> Vec<String> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => found.push(text(entry.strip_prefix(folder).unwrap()).to_owned()),
            }
        }
    }
    found.sort();
    found
}

#[apply(test)]
fn a_path_with_special_characters_names_exactly_that_file() {
    for path in ["file:x.db", ":a/u@h:1/sp ace[|^%41%2Fb%00#ü\\{x}.db"] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("directory.json"), r#"{"stores":[{"id":"S"}]}"#).unwrap();
        let settings = [("storage.url", &*format!(" sqlite://{path}\r")), ("directory.file", " directory.json\r")];
        let (code, log) = serve_and_stop(folder.path(), &settings);
        assert!(code == Some(0) && log.contains("directory file imported"), "{path}: {log}");
        let mut expected =
            ["", ".carts", ".carts.lock", ".key", ".lock"].map(|ending| format!("{path}{ending}")).to_vec();
        expected.push("directory.json".to_owned());
        expected.sort();
        assert_eq!(files(folder.path()), expected);
        assert!(std::fs::read(folder.path().join(path)).unwrap().starts_with(b"SQLite format 3\0"), "{path}");
    }
}

#[apply(test)]
fn a_link_names_the_file_it_leads_to_and_a_circle_of_links_is_refused() {
    let folder = TempDir::new().unwrap();
    let link = |target: &str, name: &str| symlink(target, folder.path().join(name)).unwrap();
    link("new/c.db", "link.db");
    link("one.db", "two.db");
    link("two.db", "one.db");
    let (code, log) = serve_and_stop(folder.path(), &[("storage.url", "sqlite://link.db")]);
    assert_eq!(code, Some(0), "{log}");
    let made = ["c.db", "c.db.carts", "c.db.carts.lock", "c.db.key", "c.db.lock"];
    assert_eq!(files(&folder.path().join("new")), made);
    let (code, log) = serve_and_stop(folder.path(), &[("storage.url", "sqlite://one.db")]);
    assert!(code == Some(64) && log.contains("one.db: Too many levels of symbolic links"), "{code:?}: {log}");
    assert!(!folder.path().join("one.db.lock").exists());
}

/// The second file has the header of a SQLite database, so only SQLite detects the damage.
#[apply(test)]
fn a_file_that_is_no_database_is_refused_and_no_file_is_created() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "not a database, but longer than the header of one").unwrap();
    std::fs::write(folder.path().join("c.db"), [&b"SQLite format 3\0"[..], &[0x5a; 4096]].concat()).unwrap();
    let before = files(folder.path());
    for subcommand in ["check-config", "serve", "export"] {
        let variables = [("CONNECTOR__STORAGE__URL", &*format!("sqlite://{}/notes.txt", text(folder.path())))];
        let (code, error) = run(&[subcommand], &variables);
        assert!(code == Some(64) && error.contains("is not a SQLite database"), "{subcommand}: {error}");
        assert_eq!(files(folder.path()), before, "{subcommand}");
    }
    let settings = [("storage.url", "sqlite://c.db"), ("security.hash_key", HASH_KEY)];
    let (code, log) = serve_and_stop(folder.path(), &settings);
    assert!(code == Some(64) && log.contains("storage.url"), "{code:?}: {log}");
    let (code, error) = run(&["demo"], &[("CONNECTOR__STORAGE__URL", "sqlite:///proc/nowhere/connector.db")]);
    assert!(code == Some(64) && error.contains("storage.url: /proc/nowhere"), "{error}");
}

#[apply(test)]
fn bad_usage_exits_with_64_and_help_with_0() {
    for arguments in [&["fly"][..], &[], &["serve", "--wings"], &["gate"], &["gate", "--url", "http://127.0.0.1:1"]] {
        assert_eq!(Ended::run(arguments, &[]).code, Some(64), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["gate", "--help"], &["scan-key", "--help"]] {
        assert_eq!(Ended::run(arguments, &[]).code, Some(0), "{arguments:?}");
    }
    assert_eq!(Ended::run(&["default-config"], &[]).stdout, include_str!("../../../config/default.toml"));
    let version = Ended::run(&["--version"], &[]).stdout;
    let commit = version.trim().strip_prefix(concat!("identity-connector ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    let commit = commit.strip_suffix(')').unwrap();
    let is_commit = commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || commit == "unknown", "{version}");
}
