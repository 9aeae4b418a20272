//! Invalid usage and configuration: exit code 64, all mistakes reported together, no secret in the output.

use crate::trials::{apply, test};
use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use crate::support::{Ended, Process, environment};

fn error_of_refused_command(arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let ended = Ended::run(arguments, settings);
    assert_eq!(ended.code, Some(64), "{arguments:?} {settings:?}: {}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.stdout, "", "errors go to standard error");
    ended.error()
}

#[apply(test)]
fn all_invalid_settings_are_reported_with_valid_values() {
    let settings = [
        ("server.bind", "localhost:80"),
        ("server.idle_timeout", "75"),
        ("rate_limit.burst", "many"),
        ("ledger.retention", "1h"),
        ("management.token", "short-secret"),
        ("server.bnd", "127.0.0.1:1"),
        ("log.level", "loud"),
    ];
    let error = error_of_refused_command(&["serve"], &settings);
    for wanted in [
        "server.bind = \"localhost:80\": must be an IP address and a port",
        "server.idle_timeout = \"75\": must be a duration with its unit, 1s to 1h",
        "rate_limit.burst = \"many\": must be a whole number, 1 to 1000000000",
        "ledger.retention = \"1h\": must be a duration with its unit, 1d to 3650d",
        "management.token: must have at least 16 characters",
        "server.bnd: unknown setting; did you mean server.bind?",
        "log.level = \"loud\": must be off or error or warn or info or debug or trace",
    ] {
        assert!(error.contains(wanted), "{wanted:?} is missing from\n{error}");
    }
    assert!(!error.contains("short-secret"), "{error}");
}

#[apply(test)]
fn a_missing_or_malformed_configuration_file_is_refused() {
    assert!(
        error_of_refused_command(&["demo", "--config", "/nonexistent/c.toml"], &[]).contains("/nonexistent/c.toml")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[server\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert!(error_of_refused_command(&["demo", "--config", path], &[]).contains(path));
    std::fs::write(file.path(), "[server]\nbinds = 1\n").unwrap();
    assert!(error_of_refused_command(&["demo", "--config", path], &[]).contains("server.binds: unknown setting"));
}

#[apply(test)]
fn a_variable_with_lower_case_letters_is_refused() {
    let digest = "0123456789abcdef".repeat(4);
    for name in
        ["CONNECTOR__SERVER__CALLERS__Amazon__API_KEY_SHA256", "CONNECTOR__Server__Bind", "connector__log__level"]
    {
        let output =
            Command::new(env!("CARGO_BIN_EXE_identity-connector")).arg("check-config").env(name, &digest).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(64), "{name}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&format!("{name}: unknown variable; did you mean {}?", name.to_uppercase())), "{error}");
    }
}

#[apply(test)]
fn an_empty_environment_variable_counts_as_unset() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[rate_limit]\nburst = 7\n").unwrap();
    let settings = [("rate_limit.burst", ""), ("server.bind", " \t"), ("ledger.retention", "\r\n")];
    let shown = Ended::run(&["check-config", "--config", file.path().to_str().unwrap()], &settings);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    for line in ["rate_limit.burst = 7 ", "server.bind = \"127.0.0.1:8080\"", "ledger.retention = \"7d\""] {
        assert!(shown.stdout.contains(line), "{line}\n{}", shown.stdout);
    }
}

#[apply(test)]
fn off_loopback_serve_needs_credentials_and_demo_needs_publish() {
    let directory = ("directory.file", "config/demo-data.json");
    let open = ("server.bind", "0.0.0.0:0");
    assert!(error_of_refused_command(&["serve"], &[directory, open]).contains("server.allow_unauthenticated"));
    assert!(
        error_of_refused_command(&["serve"], &[directory, ("management.bind", "0.0.0.0:0")])
            .contains("management.token")
    );
    assert!(
        error_of_refused_command(&["demo"], &[open, ("server.allow_unauthenticated", "true")]).contains("loopback")
    );
    assert!(
        error_of_refused_command(&["demo"], &[("management.bind", "[::]:0")])
            .contains("pass --publish to listen on other addresses")
    );
}

#[apply(test)]
async fn taken_ports_are_reported_with_variables_for_free_ports() {
    let taken = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [api, management] = taken.each_ref().map(|taken| taken.local_addr().unwrap().to_string());
    let ended = Ended::run(&["demo"], &[("server.bind", &api), ("management.bind", &management)]);
    assert_eq!(ended.code, Some(1), "the port may become free, so this is not a usage error: {}", ended.stderr);
    for line in [format!("server.bind = {api}: another process"), format!("management.bind = {management}: another")] {
        assert!(ended.stderr.contains(&line), "{line}\n{}", ended.stderr);
    }
    let variables = ended.stderr.lines().last().unwrap().trim();
    let suggested = variables.split(' ').map(|variable| variable.split_once('=').unwrap());
    let settings: Vec<(String, &str)> = suggested
        .map(|(name, value)| (name.trim_start_matches("CONNECTOR__").to_lowercase().replace("__", "."), value))
        .collect();
    let names: Vec<&str> = settings.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["server.bind", "management.bind"], "{variables}");
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let demo = Process::demo(&settings).await;
    assert_eq!(demo.api, format!("http://{}", settings[0].1));
    demo.wait_for_output(&format!("  API         {}", demo.api));
}

#[apply(test)]
fn a_free_port_is_not_reported_with_a_taken_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = Ended::run(&["demo"], &[("server.bind", &address), ("management.bind", "127.0.0.1:0")]);
    assert_eq!(ended.code, Some(1));
    assert!(!ended.stderr.contains("CONNECTOR__MANAGEMENT__BIND"), "{}", ended.stderr);
}

#[apply(test)]
fn check_config_marks_changed_settings_with_their_source() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let toml = "[rate_limit]\nburst = 7\nrequests_per_second = 1000\n[log]\nlevel = 'warn'\n";
    std::fs::write(file.path(), toml).unwrap();
    let path = file.path().to_str().unwrap();
    let settings = [("log.level", "debug"), ("management.token", "a-secret-of-sixteen-or-more")];
    let shown = Ended::run(&["check-config", "--config", path], &settings).stdout;
    let marked: Vec<(&str, &str)> = shown.lines().filter_map(|line| line.split_once('#')).collect();
    let marked: Vec<String> = marked.iter().map(|(setting, mark)| format!("{} #{mark}", setting.trim_end())).collect();
    assert_eq!(
        marked,
        [
            "log.level = \"debug\" # CONNECTOR__LOG__LEVEL; default \"info\"".to_owned(),
            "management.token = (hidden) # CONNECTOR__MANAGEMENT__TOKEN; default \"\"".to_owned(),
            format!("rate_limit.burst = 7 # {path}; default 2000"),
        ],
        "a setting that a file sets to its default is not marked"
    );
}

#[apply(test)]
fn every_subcommand_reads_the_file_of_connector_config() {
    let (bad, good) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(bad.path(), "[server]\nbnd = 1\n").unwrap();
    std::fs::write(good.path(), "").unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_identity-connector"));
        let output = command.args(arguments).env("CONNECTOR_CONFIG", bad.path()).output().unwrap();
        (output.status.code(), [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat())
    };
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
        let (code, output) = run(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {output}");
        assert!(output.contains("server.bnd: unknown setting"), "{arguments:?}: {output}");
    }
    let (code, output) = run(&["check-config", "--config", good.path().to_str().unwrap()]);
    assert_eq!(code, Some(0), "--config wins: {output}");
}

/// The container image sets `CONNECTOR_DEFAULT_BIND`. A configuration file overrides it, and `demo` ignores it.
#[apply(test)]
fn connector_default_bind_applies_to_serve_and_not_to_demo() {
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_identity-connector"));
        let command = command.args(arguments).env("CONNECTOR_DEFAULT_BIND", "127.0.0.9:8080");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat()
    };
    let shown = run(&["check-config"], &[]);
    assert!(shown.contains("server.bind = \"127.0.0.9:8080\""), "{shown}");
    assert!(shown.contains("# CONNECTOR_DEFAULT_BIND; default \"127.0.0.1:8080\""), "{shown}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[server]\nbind = '127.0.0.8:8080'\n").unwrap();
    let shown = run(&["check-config"], &[("CONNECTOR_CONFIG", file.path().to_str().unwrap())]);
    assert!(shown.contains("server.bind = \"127.0.0.8:8080\""), "the file named by CONNECTOR_CONFIG: {shown}");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let output = run(&["demo"], &[("CONNECTOR__MANAGEMENT__BIND", &taken)]);
    assert!(!output.contains("127.0.0.9"), "{output}");
}

#[apply(test)]
fn the_printed_default_configuration_changes_nothing() {
    let printed = Ended::run(&["default-config"], &[]).stdout;
    assert!(printed.contains("# The IP address and port of the API"), "with its comments: {printed}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), printed).unwrap();
    let checked = Ended::run(&["check-config", "--config", file.path().to_str().unwrap()], &[]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    assert_eq!(checked.stdout, Ended::run(&["check-config"], &[]).stdout);
    assert!(!checked.stdout.contains('#'), "{}", checked.stdout);
}

/// The user that runs the connector if root runs the tests. Otherwise it is the user who runs the tests.
const UNPRIVILEGED: u32 = 65534;

#[apply(test)]
fn a_permission_error_has_the_file_the_user_and_the_command_that_fixes_it() {
    let folder = tempfile::TempDir::new().unwrap();
    let mode = |path: &str, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let [program, closed, key, data] = ["identity-connector", "closed", "key", "data"].map(path);
    std::fs::copy(env!("CARGO_BIN_EXE_identity-connector"), &program).unwrap();
    std::fs::write(&closed, "").unwrap();
    std::fs::write(&key, "").unwrap();
    std::fs::create_dir(&data).unwrap();
    mode(folder.path().to_str().unwrap(), 0o755);
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
        let ports = [("server.bind", "127.0.0.1:0"), ("management.bind", "127.0.0.1:0")];
        let output = run.arg("serve").envs(environment(ports.iter().chain(settings))).current_dir(&data).output();
        let output = output.unwrap();
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

#[apply(test)]
fn check_config_shows_the_settings_in_effect_and_no_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"stores":[{"id":"S"}],"identityKeys":[{"key":"k","revoked":true}]}"#).unwrap();
    let settings = [
        ("directory.file", file.path().to_str().unwrap()),
        ("management.token", "a-secret-of-sixteen-or-more"),
        ("rate_limit.burst", "7"),
    ];
    let ended = Ended::run(&["check-config"], &settings);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("rate_limit.burst = 7 "), "{}", ended.stdout);
    assert!(ended.stdout.contains("management.token = (hidden)"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("The directory file has 1 store, 1 identity key and 0 recognition tokens."),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("a-secret"), "{}", ended.stdout);
    error_of_refused_command(&["check-config"], &[("directory.file", "/nonexistent/d.json")]);
}

#[apply(test)]
fn check_config_warns_of_a_missing_prefix_and_of_gates_that_open_by_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let directory = r#"{
        "stores": [{ "id": "S", "defaultGateDecision": "open" }],
        "recognitionTokens": [{ "token": "0123456789abcdef0123456789abcdef", "revoked": true }]
    }"#;
    std::fs::write(file.path(), directory).unwrap();
    let path = ("directory.file", file.path().to_str().unwrap());
    let bare = Ended::run(&["check-config"], &[path]).stdout;
    assert!(
        bare.contains("Warning: the directory has recognition tokens, but scan_key.customer_prefix is not set"),
        "{bare}"
    );
    let warning = "Warning: 1 store has the default gate decision open. Its gates open when a scan gets a 500.";
    assert!(bare.contains(warning), "{bare}");
    let set = Ended::run(&["check-config"], &[path, ("scan_key.customer_prefix", "SHOP")]).stdout;
    assert!(!set.contains("the directory has recognition tokens"), "{set}");
}

#[apply(test)]
fn bad_usage_exits_with_64_and_help_with_0() {
    for arguments in [&["fly"][..], &[], &["serve", "--wings"], &["gate"], &["gate", "--url", "http://127.0.0.1:1"]] {
        assert_eq!(Ended::run(arguments, &[]).code, Some(64), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["gate", "--help"], &["scan-key", "--help"], &["--version"]] {
        assert_eq!(Ended::run(arguments, &[]).code, Some(0), "{arguments:?}");
    }
}

#[apply(test)]
fn the_version_has_the_commit() {
    let version = Ended::run(&["--version"], &[]).stdout;
    let commit = version.trim().strip_prefix(concat!("identity-connector ", env!("CARGO_PKG_VERSION"), " (")).unwrap();
    let commit = commit.strip_suffix(')').unwrap();
    let is_commit = commit.len() >= 12 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_commit || commit == "unknown", "{version}");
}
