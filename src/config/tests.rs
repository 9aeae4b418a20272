use secrecy::ExposeSecret as _;

use super::*;
use crate::storage::Location;

fn load(mode: Mode, settings: &[(&str, &str)]) -> Result<Config, String> {
    let environment = settings.iter().map(|(name, value)| (name.into(), value.into())).collect();
    Config::load(mode, &Sources { environment, ..Sources::default() }).map_err(|error| error.to_string())
}

#[test]
fn default_settings_are_as_documented() {
    let config = load(Mode::Serve, &[("CONNECTOR__DIRECTORY__FILE", "d.json")]).expect("valid");
    assert_eq!(config.server.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.management.bind.to_string(), "127.0.0.1:9090");
    assert_eq!((config.rate_limit.per_second.get(), config.rate_limit.burst.get()), (1000, 2000));
    assert_eq!(config.ledger.retention, TimeDelta::days(7));
    assert_eq!(config.ledger.session_max_age, TimeDelta::hours(24));
    assert!(config.scan_key.is_none() && !config.single_use);
    let Storage::Database(Location::Sqlite(path)) = config.storage else { panic!("{:?}", config.storage) };
    assert_eq!(path, std::path::Path::new("data/connector.db"));
}

#[test]
fn one_error_lists_all_problems_without_secrets() {
    let error = load(
        Mode::Serve,
        &[
            ("CONNECTOR__SERVER__BIND", "localhost"),
            ("CONNECTOR__SERVER__TRUSTED_PROXIES", "10.0.0.0/8, nonsense"),
            ("CONNECTOR__RATE_LIMIT__BURST", "0"),
            ("CONNECTOR__LEDGER__RETENTION", "23h"),
            ("CONNECTOR__SESSION__MAX_AGE", "86400"),
            ("CONNECTOR__SCAN_KEY__CUSTOMER_PREFIX", "ABC"),
            ("CONNECTOR__LOG__FORMAT", "xml"),
            ("CONNECTOR__MANAGEMENT__TOKEN", "hunter2"),
            ("CONNECTOR__MANAGEMENT__TOKN", "s3cret-s3cret-s3cret"),
        ],
    )
    .expect_err("every setting is invalid");
    for wanted in [
        "server.bind = \"localhost\": must be an IP address and a port",
        "\"nonsense\" is neither an address nor a network",
        "rate_limit.burst = \"0\": must be a whole number, 1 to 1000000000",
        "ledger.retention = \"23h\": must be a duration with its unit, 1d to 3650d",
        "session.max_age = \"86400\": must be a duration",
        "scan_key.customer_prefix = \"ABC\": would make the shortest code 48 characters long",
        "log.format = \"xml\": must be json or text",
        "management.token: must have at least 16 characters",
        "management.tokn: unknown setting; did you mean management.token?",
    ] {
        assert!(error.contains(wanted), "{wanted:?} is not in\n{error}");
    }
    assert!(!error.contains("hunter2") && !error.contains("s3cret"), "{error}");
}

#[test]
fn the_environment_overrides_a_file_and_a_file_the_defaults() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let toml = "[server]\nmax_connections = 7\n[rate_limit]\nburst = 8\n[scan_key]\ncustomer_prefix = 'SHOP'\n";
    std::fs::write(file.path(), toml).expect("the file is written");
    let environment = HashMap::from([("CONNECTOR__RATE_LIMIT__BURST".into(), "9".into())]);
    let sources = Sources { file: Some(file.path().to_owned()), environment, ..Sources::default() };
    let config = Config::load(Mode::Demo, &sources).expect("valid");
    assert_eq!((config.server.max_connections, config.rate_limit.burst.get()), (7, 9));
    let pattern = config.scan_key.expect("a format").pattern();
    assert!(pattern.starts_with("^JWOSHOP["), "the file overrides the demo's prefix too: {pattern}");
}

#[test]
fn ports_off_loopback_need_authentication() {
    let file = ("CONNECTOR__DIRECTORY__FILE", "d.json");
    let open = ("CONNECTOR__SERVER__BIND", "0.0.0.0:8080");
    let allowed = ("CONNECTOR__SERVER__ALLOW_UNAUTHENTICATED", "true");
    assert!(load(Mode::Serve, &[file, open]).is_err_and(|error| error.contains("server.allow_unauthenticated")));
    assert!(load(Mode::Serve, &[file, open, allowed]).is_ok());
    assert!(load(Mode::Demo, &[open, allowed]).is_err_and(|error| error.contains("loopback")));

    for elsewhere in ["192.0.2.1:9000", "[2001:db8::1]:9000", "10.0.0.1:9000"] {
        let api = ("CONNECTOR__SERVER__BIND", elsewhere);
        let management = ("CONNECTOR__MANAGEMENT__BIND", elsewhere);
        assert!(load(Mode::Serve, &[file, api]).is_err(), "{elsewhere}");
        assert!(load(Mode::Serve, &[file, management]).is_err(), "{elsewhere}");
        assert!(load(Mode::Demo, &[api]).is_err() && load(Mode::Demo, &[management]).is_err(), "{elsewhere}");
    }

    let open = ("CONNECTOR__MANAGEMENT__BIND", "[::]:9090");
    let token = ("CONNECTOR__MANAGEMENT__TOKEN", "a-token-of-sixteen-or-more");
    assert!(load(Mode::Serve, &[file, open]).is_err_and(|error| error.contains("management.token")));
    assert!(load(Mode::Serve, &[file, open, token]).is_ok());
    assert!(load(Mode::Demo, &[open, token]).is_err_and(|error| error.contains("loopback")));
}

#[test]
fn an_ipv4_address_in_its_ipv6_form_is_the_same_address() {
    let file = ("CONNECTOR__DIRECTORY__FILE", "d.json");
    let proxies = "::ffff:10.0.0.0/104, ::ffff:192.0.2.1, ::ffff:192.0.2.1/128, 10.0.0.0/8, 2001:db8::/32, ::1";
    let settings = [
        file,
        ("CONNECTOR__SERVER__TRUSTED_PROXIES", proxies),
        ("CONNECTOR__SERVER__BIND", "[::ffff:127.0.0.1]:8080"),
        ("CONNECTOR__MANAGEMENT__BIND", "[::ffff:127.0.0.1]:9090"),
    ];
    let config = load(Mode::Serve, &settings).expect("valid, on loopback");
    let found: Vec<String> = config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.0/8", "192.0.2.1/32", "192.0.2.1/32", "10.0.0.0/8", "2001:db8::/32", "::1/128"]);
    assert_eq!(config.server.bind.to_string(), "127.0.0.1:8080");

    let [api, management] = ["CONNECTOR__SERVER__BIND", "CONNECTOR__MANAGEMENT__BIND"];
    for (first, second) in [("127.0.0.1:9000", "[::ffff:127.0.0.1]:9000"), ("[::ffff:0.0.0.0]:9000", "127.0.0.1:9000")]
    {
        let settings = [file, (api, first), (management, second)];
        let error = load(Mode::Serve, &settings).expect_err(first);
        assert!(error.contains("must not be the API's port"), "{first}: {error}");
    }
    for all in ["::ffff:0.0.0.0/96", "::/0", "::/1", "::/80", "::ffff:0:0/95"] {
        let settings = [file, ("CONNECTOR__SERVER__TRUSTED_PROXIES", all)];
        let error = load(Mode::Serve, &settings).expect_err(all);
        assert!(
            error.contains(&format!("{all} covers every address, so any client could forge X-Forwarded-For")),
            "{error}"
        );
    }
}

#[test]
fn administration_is_never_on_the_apis_port() {
    let api = ("CONNECTOR__SERVER__BIND", "127.0.0.1:9000");
    let management = ("CONNECTOR__MANAGEMENT__BIND", "127.0.0.1:9000");
    assert!(load(Mode::Demo, &[api, management]).is_err_and(|error| error.contains("must not be the API's port")));
    assert!(load(Mode::Demo, &[api, ("CONNECTOR__MANAGEMENT__BIND", "127.0.0.2:9000")]).is_ok());
    let everywhere = [
        ("CONNECTOR__SERVER__BIND", "0.0.0.0:9000"),
        ("CONNECTOR__SERVER__ALLOW_UNAUTHENTICATED", "true"),
        ("CONNECTOR__DIRECTORY__FILE", "d.json"),
        management,
    ];
    assert!(load(Mode::Serve, &everywhere).is_err_and(|error| error.contains("must not be the API's port")));
}

#[test]
fn a_variable_with_a_similar_name_is_refused_and_other_variables_are_ignored() {
    for similar in
        ["CONNECTOR_SERVER__BIND", "CONNECTOR_SERVER_BIND", "connector__server__bind", "Connector__Server__Bind"]
    {
        let error = load(Mode::Demo, &[(similar, "127.0.0.1:1")]).expect_err(similar);
        assert!(
            error.contains(&format!("{similar}: unknown variable; did you mean CONNECTOR__SERVER__BIND?")),
            "{error}"
        );
    }
    for other in ["CONNECTOR_URL", "CONNECTOR_API_KEY", "CONNECTOR_SERVICE_HOST", "SERVER__BIND"] {
        assert!(load(Mode::Demo, &[(other, "x")]).is_ok(), "{other}");
    }
}

#[test]
fn a_variable_that_is_not_unicode_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let token = OsString::from_vec(vec![0xff; 20]);
    let environment = HashMap::from([("CONNECTOR__MANAGEMENT__TOKEN".into(), token)]);
    let error = Config::load(Mode::Demo, &Sources { environment, ..Sources::default() }).expect_err("not UTF-8");
    assert!(error.to_string().contains("CONNECTOR__MANAGEMENT__TOKEN: must be text in UTF-8"), "{error}");
}

#[test]
fn values_of_the_wrong_kind_are_refused_without_repeating_them() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    for (toml, wanted) in [
        ("server = 1", "server: is a section, not a setting"),
        ("[server.bind]", "server.bind: is a setting, not a section"),
        ("[server.bind]\nport = 1", "server.bind.port: unknown setting"),
        ("[server]\ntrusted_proxies = [{ a = 1 }]", "server.trusted_proxies: must be one value"),
        ("[server]\ntrusted_proxies = ['10.0.0.0/8', '0.0.0.0/0']", "0.0.0.0/0 covers every address"),
        ("[log]\nlevel = ''", "log.level = \"\": must be off or error"),
        ("[management]\ntoken = hush-hush-hush-hush-hush", "line 2: "),
        ("[management]\ntoken = 'hush-hush-hush-hush-hush", "line 2: "),
        ("[management]\ntoken = 'hush hush hush hush'", "printable ASCII without spaces"),
    ] {
        std::fs::write(file.path(), toml).expect("the file is written");
        let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
        let error = Config::load(Mode::Demo, &sources).expect_err(toml).to_string();
        assert!(error.contains(wanted) && !error.contains("hush"), "{toml}\n{error}");
    }
}

#[test]
fn a_secret_is_read_from_the_file_of_its_file_variant() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "a-token-of-sixteen-or-more\n").expect("the file is written");
    let path = file.path().to_str().expect("UTF-8");
    let config = load(Mode::Demo, &[("CONNECTOR__MANAGEMENT__TOKEN_FILE", path)]).expect("valid");
    let token = config.management.token.expect("a token");
    assert_eq!(token.expose_secret(), "a-token-of-sixteen-or-more");
    assert!(!format!("{token:?}").contains("sixteen"));

    let both =
        [("CONNECTOR__MANAGEMENT__TOKEN_FILE", path), ("CONNECTOR__MANAGEMENT__TOKEN", "another-of-sixteen-or-so")];
    let refused = load(Mode::Demo, &both).expect_err("both are set");
    assert!(refused.contains("only one of them") && !refused.contains("sixteen"), "{refused}");
}

#[test]
fn urls_with_a_password_are_never_shown() {
    let setting = "CONNECTOR__RATE_LIMIT__URL";
    let good = "redis://connector:s3cret@valkey.internal:6379/2";
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{good}\n")).expect("the file is written");
    let path = file.path().to_str().expect("UTF-8");
    for given in [(setting, good), ("CONNECTOR__RATE_LIMIT__URL_FILE", path)] {
        let config = load(Mode::Demo, &[given]).expect("valid");
        assert!(config.shared_rate_limit.is_some() && !format!("{config:?}").contains("s3cret"), "{config:?}");
    }
    let environment = HashMap::from([(setting.into(), good.into())]);
    let effective =
        effective(Mode::Demo, &Sources { environment, ..Sources::default() }).expect("the settings are read");
    assert!(effective.iter().any(|s| s.name == "rate_limit.url" && s.value == "(hidden)"), "{effective:?}");

    assert!(load(Mode::Demo, &[]).expect("valid").shared_rate_limit.is_none());
    for bad in
        ["http://:s3cret@localhost", "redis://:s3cret@", "redis://:s3cret@localhost/x", "redis:// :s3cret@localhost"]
    {
        let error = load(Mode::Demo, &[(setting, bad)]).expect_err(bad);
        assert!(error.contains("rate_limit.url: must ") && !error.contains("s3cret"), "{error}");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

/// 32 equal bytes in Base64.
fn key(byte: u8) -> String {
    base64(&[byte; 32])
}

#[test]
fn signing_keys_are_read_from_the_environment_a_secret_file_and_the_configuration_file() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{}\r\n\n{}\n", key(1), key(2))).expect("the file is written");
    let path = file.path().to_str().expect("UTF-8");
    let list = format!("{}, {}", key(1), key(2));
    let toml = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(toml.path(), format!("[scan_key]\nsigning_keys = ['{}', '{}']\n", key(1), key(2)))
        .expect("the file is written");
    let in_toml = Sources { file: Some(toml.path().to_owned()), ..Sources::default() };
    let both = [
        load(Mode::Demo, &[("CONNECTOR__SCAN_KEY__SIGNING_KEYS", &list)]).expect("valid"),
        load(Mode::Demo, &[("CONNECTOR__SCAN_KEY__SIGNING_KEYS_FILE", path)]).expect("valid"),
        Config::load(Mode::Demo, &in_toml).expect("valid"),
    ];
    let codes = both.map(|config| {
        assert!(!format!("{config:?}").contains(&key(1)), "{config:?}");
        let token = crate::domain::scan_key_code::RecognitionToken::parse(&"a".repeat(32)).expect("a token");
        let at = chrono::DateTime::from_timestamp(1_707_501_237, 0).expect("in range");
        config.scan_key.and_then(|format| format.write(&token, at, "").ok()).expect("a code")
    });
    assert!(codes.iter().all(|code| code.len() == 66 && *code == codes[0]), "{codes:?}");

    let environment = HashMap::from([("CONNECTOR__SCAN_KEY__SIGNING_KEYS".into(), list.into())]);
    let effective =
        effective(Mode::Demo, &Sources { environment, ..Sources::default() }).expect("the settings are read");
    assert!(effective.iter().any(|s| s.name == "scan_key.signing_keys" && s.value == "(hidden)"), "{effective:?}");
}

#[test]
fn an_invalid_signing_key_is_named_by_its_position_and_not_quoted() {
    let (first, second, short) = (key(1), key(2), base64(&[9; 31]));
    for (list, wanted) in [
        (format!("{first},{short}"), "scan_key.signing_keys: key 2 must be at least 32 bytes in Base64"),
        (format!("{short},,{first}"), "scan_key.signing_keys: key 1 must be at least 32 bytes in Base64"),
        (format!("{first},{second},hush-hush"), "scan_key.signing_keys: key 3 must be at least 32 bytes in Base64"),
        (format!("{first},{second},{first}"), "scan_key.signing_keys: key 3 is the same as key 1"),
        (",".to_owned(), "scan_key.signing_keys: contains no key"),
    ] {
        // The prefix and single_use are valid with signing keys, so they must not be named.
        let settings = [
            ("CONNECTOR__SCAN_KEY__SIGNING_KEYS", list.as_str()),
            ("CONNECTOR__SCAN_KEY__SINGLE_USE", "true"),
            ("CONNECTOR__SCAN_KEY__CUSTOMER_PREFIX", "A"),
        ];
        let error = load(Mode::Demo, &settings).expect_err(&list);
        assert!(error.contains(wanted), "{wanted:?} is not in\n{error}");
        for secret in [&first, &second, &short, "hush"] {
            assert!(!error.contains(secret), "{error}");
        }
        assert!(!error.contains("single_use"), "{error}");
    }

    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    for (content, wanted) in [("\n", "contains no key"), ("hush-hush\n", "key 1 must be at least 32 bytes")] {
        std::fs::write(file.path(), content).expect("the file is written");
        let error = load(Mode::Demo, &[("CONNECTOR__SCAN_KEY__SIGNING_KEYS_FILE", path)]).expect_err(content);
        assert!(error.contains(&format!("scan_key.signing_keys_file: {wanted}")) && !error.contains("hush"), "{error}");
    }
    let missing =
        [("CONNECTOR__SCAN_KEY__SIGNING_KEYS_FILE", "/nonexistent/keys"), ("CONNECTOR__SCAN_KEY__SINGLE_USE", "true")];
    let error = load(Mode::Demo, &missing).expect_err("there is no such file");
    assert!(error.contains("signing_keys_file") && !error.contains("single_use"), "{error}");
    let twice = [("CONNECTOR__SCAN_KEY__SIGNING_KEYS_FILE", path), ("CONNECTOR__SCAN_KEY__SIGNING_KEYS", &first)];
    assert!(load(Mode::Demo, &twice).is_err_and(|error| error.contains("only one of them")));
}

#[test]
fn a_list_of_secrets_may_require_an_exact_length() {
    let setting = "scan_key.signing_keys";
    let read = |bytes| {
        let environment = HashMap::from([("CONNECTOR__SCAN_KEY__SIGNING_KEYS".into(), key(1).into())]);
        let sources = Sources { environment, ..Sources::default() };
        let mut reader = Reader::new(Mode::Demo, &sources).expect("the settings are read");
        let keys = reader.secret_list(setting, &bytes);
        reader.finish(keys).map_err(|error| error.to_string())
    };
    assert_eq!(
        read(32..=32).expect("the right length").iter().map(|key| key.expose_secret().len()).collect::<Vec<_>>(),
        [32]
    );
    assert!(read(33..=33).is_err_and(|error| error.contains("key 1 must be 33 bytes in Base64")));
    assert!(read(16..=24).is_err_and(|error| error.contains("key 1 must be 16 to 24 bytes in Base64")));
}

#[test]
fn single_use_needs_signing_keys() {
    let on = ("CONNECTOR__SCAN_KEY__SINGLE_USE", "true");
    let error = load(Mode::Demo, &[on]).expect_err("no signing keys");
    assert!(error.contains("scan_key.single_use = \"true\": needs scan_key.signing_keys"), "{error}");
    assert!(load(Mode::Demo, &[on, ("CONNECTOR__SCAN_KEY__SIGNING_KEYS", &key(1))]).expect("valid").single_use);
}

#[test]
fn prefix_too_long_for_a_signature_is_refused() {
    let keys = ("CONNECTOR__SCAN_KEY__SIGNING_KEYS", key(1));
    for (length, fits) in [(92, true), (93, false)] {
        let prefix = "A".repeat(length);
        let loaded = load(Mode::Demo, &[("CONNECTOR__SCAN_KEY__CUSTOMER_PREFIX", &prefix), (keys.0, keys.1.as_str())]);
        assert_eq!(loaded.is_ok(), fits, "{length}");
        if let Err(error) = loaded {
            assert!(error.contains("would make the shortest code 155 characters long"), "{error}");
        }
    }
}

#[test]
fn every_setting_is_read() {
    let defaults: toml_names::Names = toml_names::read(include_str!("../../config/default.toml"));
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let files = std::fs::read_dir(folder).expect("the folder of this file").map(|entry| entry.expect("a file").path());
    let files = files.filter(|file| !file.ends_with("tests.rs"));
    let source: String = files.map(|file| std::fs::read_to_string(file).expect("source")).collect();
    for name in defaults {
        let setting = name.trim_end_matches("_file");
        let setting = setting.rsplit_once("\"*\".").map_or(setting, |(_, key)| key);
        assert!(
            source.contains(&format!("\"{setting}\"")) || source.contains(&format!("\"{name}\"")),
            "no code reads {name}"
        );
    }
}

/// The names of settings in a TOML file of plain sections.
mod toml_names {
    pub(super) type Names = Vec<String>;

    pub(super) fn read(toml: &str) -> Names {
        let mut section = "";
        let mut names = Vec::new();
        for line in toml.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name;
            } else if let Some((key, _)) = line.split_once(" = ") {
                names.push(format!("{section}.{key}"));
            }
        }
        names
    }
}
