//! Sources of settings and their order, names, secrets, defaults. `mistakes` has the settings that are refused.

mod mistakes;

use secrecy::ExposeSecret as _;

use super::*;
use crate::storage::Location;

/// Two keys of 32 bytes each.
const KEY: &str = "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE=";
const OTHER: &str = "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
const AUTH_KEY: &str = "an-authorization-key-of-the-tests";
const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const ISSUER: &str = "commerce.identity_providers.entra.issuer";
const AUDIENCE: &str = "commerce.identity_providers.entra.audience";
const API_KEYS: &str = "server.callers.amazon.api_key_sha256";

/// Settings with which `serve` starts, with a caller, the shopper API and an identity provider.
const VALID: [(&str, &str); 8] = [
    ("storage.url", "memory:"),
    (API_KEYS, DIGEST),
    ("commerce.enabled", "true"),
    ("commerce.authorization_key", AUTH_KEY),
    ("commerce.signing_keys", KEY),
    ("commerce.context_keys", OTHER),
    (ISSUER, "https://login.example.com"),
    (AUDIENCE, "shop"),
];

type Settings<'s> = &'s [(&'s str, &'s str)];

/// Sets environment variables. A later value overrides an earlier one, and an empty one counts as unset.
fn sources(settings: Settings) -> Sources {
    let variable = |name: &str| format!("CONNECTOR__{}", name.to_uppercase().replace('.', "__"));
    let environment = settings.iter().map(|(name, value)| (variable(name).into(), value.into())).collect();
    Sources { environment, ..Sources::default() }
}

fn load(mode: Mode, settings: Settings) -> Result<Config, String> {
    Config::load(mode, &sources(settings)).map_err(|error| error.to_string())
}

fn write(content: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), content).expect("the file is written");
    file
}

fn text(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("UTF-8")
}

/// A configuration file.
fn in_file(file: &tempfile::NamedTempFile, settings: Settings) -> Sources {
    Sources { file: Some(file.path().to_owned()), ..sources(settings) }
}

/// Every setting in effect, as `check-config` shows it.
fn shown(mode: Mode, sources: &Sources) -> Vec<String> {
    let effective = effective(mode, sources).expect("the settings are read");
    effective.iter().map(|Effective { name, value, .. }| format!("{name} = {value}")).collect()
}

#[test]
fn default_settings_are_as_documented() {
    let config = load(Mode::Serve, &[("directory.file", "d.json")]).expect("valid");
    assert_eq!(config.server.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.management.bind.to_string(), "127.0.0.1:9090");
    assert_eq!((config.rate_limit.per_second.get(), config.rate_limit.burst.get()), (1000, 2000));
    assert_eq!(config.ledger.retention, TimeDelta::days(7));
    assert_eq!(config.ledger.session_max_age, TimeDelta::hours(24));
    assert!(config.scan_key.is_none() && config.shared_rate_limit.is_none() && !config.single_use);
    let Storage::Database(Location::Sqlite(path)) = config.storage else { panic!("{:?}", config.storage) };
    assert_eq!(path, std::path::Path::new("data/connector.db"));

    let printed = effective(Mode::Serve, &in_file(&write(DEFAULTS), &[])).expect("the settings are read");
    assert_eq!(printed, effective(Mode::Serve, &sources(&[])).expect("the settings are read"));
    assert!(printed.iter().all(|setting| setting.changed.is_none()), "{printed:?}");
}

#[test]
fn an_ipv4_address_in_its_ipv6_form_is_the_same_address() {
    let proxies = "::ffff:10.0.0.0/104, ::ffff:192.0.2.1, ::ffff:192.0.2.1/128, 10.0.0.0/8, 2001:db8::/32, ::1";
    let settings = [
        ("server.trusted_proxies", proxies),
        ("server.bind", "[::ffff:127.0.0.1]:8080"),
        ("management.bind", "[::ffff:127.0.0.1]:9090"),
    ];
    let config = load(Mode::Serve, &settings).expect("valid, on loopback");
    let found: Vec<String> = config.server.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(found, ["10.0.0.0/8", "192.0.2.1/32", "192.0.2.1/32", "10.0.0.0/8", "2001:db8::/32", "::1/128"]);
    assert_eq!(config.server.bind.to_string(), "127.0.0.1:8080");
}

#[test]
fn sources_override_each_other_in_the_documented_order() {
    let toml = "[server]\nmax_connections = 7\nbind = '127.0.0.8:8080'\n[rate_limit]\nburst = 8\nmax_callers = 5\n\
                requests_per_second = 1000\n[scan_key]\ncustomer_prefix = 'SHOP'\n";
    let file = write(toml);
    // An empty variable counts as unset.
    let variables = [
        ("rate_limit.burst", "9"),
        ("rate_limit.max_callers", " \t"),
        ("ledger.retention", "\r\n"),
        ("log.level", "off"),
    ];
    let mut layers = in_file(&file, &variables);
    layers.environment.insert("CONNECTOR_DEFAULT_BIND".into(), "127.0.0.9:8080".into());
    let config = Config::load(Mode::Demo, &layers).expect("valid");
    assert_eq!((config.server.max_connections, config.rate_limit.burst.get()), (7, 9));
    assert_eq!((config.rate_limit.max_callers, config.ledger.retention), (5, TimeDelta::days(7)));
    let pattern = config.scan_key.expect("a format").pattern();
    assert!(pattern.starts_with("^JWOSHOP["), "the file overrides the demo's prefix too: {pattern}");

    let changed = effective(Mode::Serve, &layers).expect("the settings are read").into_iter();
    let changed = changed.filter_map(|Effective { name, value, changed }| {
        let Override { origin, default } = changed?;
        Some(format!("{name} = {value} # {origin}; {}", default?))
    });
    let path = text(&file);
    let expected = [
        "log.level = \"off\" # CONNECTOR__LOG__LEVEL; \"info\"".to_owned(),
        "rate_limit.burst = 9 # CONNECTOR__RATE_LIMIT__BURST; 2000".to_owned(),
        format!("rate_limit.max_callers = 5 # {path}; 100000"),
        format!("scan_key.customer_prefix = \"SHOP\" # {path}; \"\""),
        format!("server.bind = \"127.0.0.8:8080\" # {path}; \"127.0.0.1:8080\""),
        format!("server.max_connections = 7 # {path}; 700"),
    ];
    assert_eq!(changed.collect::<Vec<_>>(), expected, "a setting that a file sets to its default is not changed");

    // The container image sets the default of `serve`, not of a demo.
    layers.file = None;
    let bind = |mode| Config::load(mode, &layers).expect("valid").server.bind.to_string();
    assert_eq!([bind(Mode::Serve), bind(Mode::Demo)], ["127.0.0.9:8080", "127.0.0.1:8080"]);
    let image = effective(Mode::Serve, &layers).expect("the settings are read");
    let image = image.into_iter().find(|setting| setting.name == "server.bind").and_then(|setting| setting.changed);
    assert_eq!(image.expect("changed").origin, "CONNECTOR_DEFAULT_BIND");
}

#[test]
fn named_sections_are_read_from_variables_and_from_a_file() {
    let file = write("[commerce.identity_providers.okta]\nissuer = 'http://127.0.0.1:9/okta'\naudience = ['a', 'b']\n");
    let layers = in_file(&file, &VALID);
    assert_eq!(Config::load(Mode::Serve, &layers).expect("valid").commerce.expect("enabled").providers.len(), 2);
    let shown = shown(Mode::Serve, &layers);
    for setting in [
        "commerce.identity_providers.entra.issuer = \"https://login.example.com\"",
        "commerce.identity_providers.entra.algorithms = \"RS256\"",
        "commerce.identity_providers.okta.audience = \"a,b\"",
        "commerce.identity_providers.okta.customer_claim = \"sub\"",
        "server.callers.amazon.stores = \"*\"",
    ] {
        assert!(shown.iter().any(|shown| shown == setting), "{setting} is not in {shown:#?}");
    }
}

#[test]
fn secrets_are_hidden_among_the_settings_in_effect() {
    let secrets: [(&str, &str); 10] = [
        ("commerce.authorization_key", AUTH_KEY),
        ("commerce.context_keys", OTHER),
        ("commerce.signing_keys", KEY),
        ("directory.token", "hush"),
        ("management.token", "hush-hush-hush-hush"),
        ("rate_limit.url", "redis://connector:hush@valkey.internal:6379/2"),
        ("scan_key.signing_keys", KEY),
        ("security.hash_key", KEY),
        ("storage.url", "postgres://u:hush@127.0.0.1:1/d"),
        ("telemetry.otlp_headers", "authorization=Bearer hush"),
    ];
    let settings = [&VALID[..], &[("directory.url", "http://127.0.0.1:9/who")], &secrets].concat();
    let config = format!("{:?}", load(Mode::Serve, &settings).expect("valid"));
    let shown = shown(Mode::Serve, &sources(&settings));
    for (name, _) in secrets {
        assert!(shown.contains(&format!("{name} = (hidden)")), "{name} is shown: {shown:#?}");
    }
    let shown = shown.join("\n");
    for secret in ["hush", KEY, OTHER, AUTH_KEY] {
        assert!(!shown.contains(secret) && !config.contains(secret), "{secret}");
    }
}

#[test]
fn a_secret_is_read_from_the_file_of_its_file_variant() {
    let token = write(format!(" {AUTH_KEY}\n"));
    let path = format!(" {}\r", text(&token));
    let config = load(Mode::Demo, &[("management.token_file", &path)]).expect("valid");
    assert_eq!(config.management.token.expect("a token").expose_secret(), AUTH_KEY);
    let both = [("management.token_file", path.as_str()), ("management.token", "another-of-sixteen-or-so")];
    let error = load(Mode::Demo, &both).expect_err("both are set");
    assert!(error.contains("only one of them") && !error.contains("sixteen"), "{error}");

    for (content, wanted) in [("\n", "contains no key"), ("hush-hush\n", "key 1 must be at least 32 bytes")] {
        let keys = write(content);
        let error = load(Mode::Demo, &[("scan_key.signing_keys_file", text(&keys))]).expect_err(content);
        assert!(error.contains(&format!("scan_key.signing_keys_file: {wanted}")) && !error.contains("hush"), "{error}");
    }
    let url = write("redis://:hush@valkey.internal\n");
    let config = load(Mode::Demo, &[("rate_limit.url_file", text(&url))]).expect("valid");
    assert!(config.shared_rate_limit.is_some() && !format!("{config:?}").contains("hush"), "{config:?}");
}

#[test]
fn signing_keys_are_read_from_the_environment_a_secret_file_and_the_configuration_file() {
    let keys = write(format!("{KEY}\r\n\n{OTHER}\n"));
    let toml = write(format!("[scan_key]\nsigning_keys = ['{KEY}', '{OTHER}']\n"));
    let list = format!("{KEY}, {OTHER}");
    let configs = [
        load(Mode::Demo, &[("scan_key.signing_keys", &list)]).expect("valid"),
        load(Mode::Demo, &[("scan_key.signing_keys_file", text(&keys))]).expect("valid"),
        Config::load(Mode::Demo, &in_file(&toml, &[])).expect("valid"),
    ];
    let codes = configs.map(|config| {
        let token = crate::domain::scan_key_code::RecognitionToken::parse(&"a".repeat(32)).expect("a token");
        let at = chrono::DateTime::from_timestamp(1_707_501_237, 0).expect("in range");
        config.scan_key.and_then(|format| format.write(&token, at, "").ok()).expect("a code")
    });
    assert!(codes.iter().all(|code| code.len() == 66 && *code == codes[0]), "{codes:?}");
    for (length, fits) in [(92, true), (93, false)] {
        let prefix = "A".repeat(length);
        let loaded = load(Mode::Demo, &[("scan_key.customer_prefix", &prefix), ("scan_key.signing_keys", &list)]);
        assert_eq!(loaded.is_ok(), fits, "{length}");
        assert!(loaded.err().is_none_or(|error| error.contains("would make the shortest code 155 characters long")));
    }
}

#[test]
fn a_list_of_secrets_may_require_an_exact_length() {
    let read = |bytes| {
        let sources = sources(&[("scan_key.signing_keys", KEY)]);
        let mut reader = Reader::new(Mode::Demo, &sources).expect("the settings are read");
        let keys = reader.secret_list("scan_key.signing_keys", &bytes);
        reader.finish(keys).map_err(|error| error.to_string())
    };
    assert_eq!(read(32..=32).expect("the right length").len(), 1);
    assert!(read(33..=33).is_err_and(|error| error.contains("key 1 must be 33 bytes in Base64")));
    assert!(read(16..=24).is_err_and(|error| error.contains("key 1 must be 16 to 24 bytes in Base64")));
}

#[test]
fn a_sqlite_path_is_used_exactly_as_written() {
    let url = write("sqlite://data/c.db \t\r\n");
    let paths =
        ["a:b/c.db", ":x:.db", "[x/c.db", "c^d|e.db", "%41.db", "a%2Fb%00.db", "sp ace/#ü\\{x}.db", "file:x.db"];
    let urls = paths.map(|path| ("storage.url", format!("sqlite://{path}"), path));
    let around = [
        ("storage.url", "  sqlite://data/c.db \r".to_owned(), "data/c.db"),
        ("storage.url_file", text(&url).to_owned(), "data/c.db"),
        ("storage.url_file", format!("{}\r", text(&url)), "data/c.db"),
    ];
    for (setting, value, path) in urls.into_iter().chain(around) {
        let storage = load(Mode::Serve, &[(setting, &value)]).expect(path).storage;
        let is_same = matches!(&storage, Storage::Database(Location::Sqlite(found)) if found.to_str() == Some(path));
        assert!(is_same, "{value:?}: {storage:?}");
    }
}

#[test]
fn every_setting_is_read() {
    let defaults = Reader::new(Mode::Serve, &sources(&[])).expect("the settings are read").defaults;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let files = std::fs::read_dir(folder).expect("the folder of this file").map(|entry| entry.expect("a file").path());
    let files = files.filter(|file| file.is_file());
    let source: String = files.map(|file| std::fs::read_to_string(file).expect("source")).collect();
    for name in defaults.keys() {
        let setting = name.trim_end_matches("_file");
        let setting = setting.rsplit_once("*.").map_or(setting, |(_, key)| key);
        assert!(
            source.contains(&format!("\"{setting}\"")) || source.contains(&format!("\"{name}\"")),
            "no code reads {name}"
        );
    }
}
