//! Settings that are refused: the error names each, what is valid, and no secret.

use super::*;

/// Keys of 16 and of 54 bytes.
const SHORT: &str = "dG9vIHNob3J0LCBhIGtleQ==";
const LONG: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
const EMPTY_DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

const ALGORITHMS: &str = "commerce.identity_providers.entra.algorithms";
const BACKEND: (&str, &str) = ("directory.url", "http://127.0.0.1:9/who");

/// The error of `serve` with these settings instead of some that are valid.
fn error_with(settings: Settings) -> String {
    load(Mode::Serve, &[&VALID, settings].concat()).err().unwrap_or_else(|| format!("{settings:?} is accepted"))
}

/// Fails with all of these failures.
#[track_caller]
fn assert_none(failures: impl IntoIterator<Item = String>) {
    let failures: Vec<String> = failures.into_iter().collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A row for each of the values, which are separated by spaces.
fn each<'r>(setting: &'r str, values: &'r str, message: &'r str) -> impl Iterator<Item = (&'r str, &'r str, &'r str)> {
    values.split_whitespace().map(move |value| (setting, value, message))
}

/// The error has the value, unless it may be a secret, and nothing else.
#[test]
fn a_value_that_cannot_be_used_is_reported_with_what_is_valid() {
    let (long, zeros) = ("x".repeat(256), "0".repeat(64));
    let long_url = format!("https://login.example.com/{}", "x".repeat(230));
    let rows = [
        ("server.bind", "localhost:80", "must be an IP address and a port"),
        ("server.trusted_proxies", "10.0.0.0/8, nonsense", "\"nonsense\" is neither an address nor a network"),
        ("server.idle_timeout", "75", "must be a duration with its unit, 1s to 1h"),
        ("server.allow_unauthenticated", "true", "cannot be combined with server.callers"),
        ("server.callers.amazon.stores", "*,STORE-001", "must be * alone, or a list of store ids"),
        ("server.callers.amazon.certificate_subject", "CN=a", "needs tls.client_authority"),
        (API_KEYS, &zeros, "is a placeholder: replace it with the SHA-256 of the caller's API key"),
        ("rate_limit.burst", "many", "must be a whole number, 1 to 1000000000"),
        ("rate_limit.burst", "0", "must be a whole number, 1 to 1000000000"),
        ("ledger.retention", "23h", "must be a duration with its unit, 1d to 3650d"),
        ("session.max_age", "86400", "must be a duration with its unit, 1m to 7d"),
        ("session.max_age", "8d", "must be a duration with its unit, 1m to 7d"),
        ("scan_key.customer_prefix", "ABC", "would make the shortest code 48 characters long"),
        ("scan_key.single_use", "true", "needs scan_key.signing_keys"),
        ("log.format", "xml", "must be json or text"),
        ("log.level", "loud", "must be off or error or warn or info or debug or trace"),
        ("commerce.token_lifetime", "25h", "must be a duration with its unit, 1m to 1d"),
        ("commerce.requests_per_second", "0", "must be a whole number, 1 to 1000000"),
        ("commerce.burst", "1000001", "must be a whole number, 1 to 1000000"),
        ("commerce.failures_per_minute", "some", "must be a whole number, 1 to 1000000"),
        ("commerce.max_in_flight", "0", "must be a whole number, 1 to 100000"),
        ("commerce.bind", "localhost:80", "must be an IP address and a port"),
        ("commerce.issuer", &long, "must have 1 to 255 characters"),
        ("commerce.code_lifetime", "2m", "must be a duration with its unit, 3m to 1h"),
        (ISSUER, &long_url, "must be an https URL, or an http URL on loopback"),
        ("commerce.codes_per_shopper", "0", "must be a whole number, 1 to 1000"),
        ("commerce.identity_providers.entra.unknown_customers", "welcome", "must be link_only or create_shopper"),
        ("directory.timeout", "1300ms", "must be a duration with its unit, 50ms to 1200ms"),
        ("directory.cache_for", "61s", "must be a duration with its unit, 0s to 1m"),
        ("directory.max_in_flight", "0", "must be a whole number, 1 to 10000"),
        ("telemetry.sample_ratio", "1.5", "must be a number, 0 to 1"),
        ("telemetry.sample_ratio", "NaN", "must be a number, 0 to 1"),
        ("telemetry.callers_traces_per_second", "-1", "must be a whole number"),
        ("telemetry.service_name", &long, "must have 1 to 255 characters"),
    ];
    let algorithms =
        each(ALGORITHMS, "HS256 none RS256,PS256 rs256 ,", "must be one or more of RS256, ES256 and EdDSA");
    let issuers = each(
        ISSUER,
        "http://login.example.com http://127.0.0.1.example.com http://192.0.2.1 ftp://127.0.0.1 login.example.com \
         https://login.example.com?tenant=1 https://login.example.com/#x https://me@login.example.com \
         JhooseCommerceApi",
        "must be an https URL, or an http URL on loopback",
    );
    let origins = each(
        "commerce.allowed_origins",
        "* null shop.example.com https:// https://shop.example.com/ https://shop.example.com/path \
         https://SHOP.example.com https://shop.example.com:443 https://*.example.com ftp://shop.example.com \
         https://me@shop.example.com",
        "\" is not a web origin such as https://shop.example.com",
    );
    let open_proxies = each(
        "server.trusted_proxies",
        "::ffff:0.0.0.0/96 ::/0 ::/1 ::/80 ::ffff:0:0/95 10.0.0.0/8,0.0.0.0/0",
        " covers every address, so any client could forge X-Forwarded-For",
    );
    let lists = algorithms.chain(issuers).chain(origins).chain(open_proxies);
    assert_none(rows.into_iter().chain(lists).filter_map(|(setting, value, message)| {
        let error = error_with(&[(setting, value)]);
        let begin = format!("\n  {setting} = {value:?}: ");
        let is_right = error.contains(&begin) && error.contains(message) && error.matches("\n  ").count() == 1;
        (!is_right).then_some(error)
    }));
    let three = ["a", "b", "c"].map(|digit| digit.repeat(64)).join(",");
    let error = error_with(&[(API_KEYS, &three)]);
    assert!(error.contains("must be one digest, or two while the key is being changed"), "{error}");
}

#[test]
fn a_secret_that_cannot_be_used_is_not_repeated() {
    let twice = [KEY, OTHER, KEY].join(",");
    let [second_short, both, digests] = [[KEY, SHORT], [OTHER, KEY], [DIGEST, DIGEST]].map(|list| list.join(","));
    let not_base64 = KEY.trim_start_matches('d');
    let rows = [
        ("management.token", "hush-hush-hush", "must have at least 16 characters"),
        ("management.token", "hush hush hush hush", "printable ASCII without spaces"),
        ("security.hash_key", SHORT, "must be 32 bytes in Base64"),
        ("storage.url", "sqlite://", "must be memory:, sqlite://"),
        ("storage.url", "mysql://x", "must be memory:, sqlite://"),
        ("storage.url", "connector.db", "must be memory:, sqlite://"),
        ("commerce.authorization_key", "hush-hush", "must have at least 16 characters"),
        ("commerce.authorization_key", "a-key-of-the-tests,hush", "must be one key, or two separated by a comma"),
        ("commerce.signing_keys", &second_short, "key 2 must be at least 32 bytes in Base64"),
        ("commerce.signing_keys", "not Base64!", "key 1 must be at least 32 bytes in Base64"),
        ("commerce.signing_keys", not_base64, "key 1 must be at least 32 bytes in Base64"),
        ("commerce.context_keys", "bm90IDMyIGJ5dGVz", "key 1 must be 32 bytes in Base64"),
        ("commerce.context_keys", LONG, "key 1 must be 32 bytes in Base64"),
        ("commerce.context_keys", &both, "must not contain a key of commerce.signing_keys"),
        ("scan_key.signing_keys", &twice, "key 3 is the same as key 1"),
        ("scan_key.signing_keys", &second_short, "key 2 must be at least 32 bytes in Base64"),
        ("scan_key.signing_keys", ",", "contains no key"),
        ("directory.token", "hush hush", "must have at least 1"),
        ("telemetry.otlp_headers", "authorization=Bearer hush,hush header", "header 2 must be name=value"),
        (API_KEYS, "the-key-of-amazon", "must be 64 hexadecimal digits"),
        (API_KEYS, &digests, "contains the same key twice"),
        (API_KEYS, EMPTY_DIGEST, "is the SHA-256 of an empty key"),
    ];
    let postgres = each(
        "storage.url",
        "postgres://u:hush/er@db.example.com/d postgres://u:12/hush@db.example.com/d \
         postgres://u:p@hush/er@db.example.com/d postgres://u:hush?er@db.example.com/d \
         postgres://u:12?hush@db.example.com/d postgres://u:12?a=hush@db.example.com/d \
         postgres://u:hush#er@db.example.com/d postgresql://u:12#hush@db.example.com/d",
        "write @ as %40, / as %2F",
    );
    let redis = ["http://:hush@localhost", "redis://:hush@", "redis://:hush@localhost/x", "redis:// :hush@localhost"]
        .map(|url| ("rate_limit.url", url, "must "));
    let backends = each(
        "directory.url",
        "http://10.0.0.1/who http://localhost.example.com/who http://127.0.0.1.example.com/who \
         ftp://127.0.0.1/who idp.example.com https:// https://user@idp.example.com/who \
         https://user:hush@idp.example.com/who https://idp.example.com/who?key=hush \
         https://idp.example.com/who#hush",
        "must ",
    );
    let collectors = each(
        "telemetry.otlp_endpoint",
        "https://user:hush@collector.example ftp://collector",
        "must be an http or https URL without user, password and query",
    );
    let urls = postgres.chain(redis).chain(backends).chain(collectors);
    assert_none(rows.into_iter().chain(urls).filter_map(|(setting, value, message)| {
        let error = error_with(&[(setting, value)]);
        let is_hidden =
            ["hush", "the-key", KEY, OTHER, SHORT, LONG, DIGEST, AUTH_KEY].iter().all(|secret| !error.contains(secret));
        let is_right = error.contains(&format!("\n  {setting}: ")) && error.contains(message);
        (!is_right || !is_hidden || error.matches("\n  ").count() != 1).then(|| format!("{setting} = {value}: {error}"))
    }));
}

#[test]
fn settings_that_do_not_fit_together_are_reported() {
    const OPEN: (&str, &str) = ("server.bind", "0.0.0.0:0");
    let duplicate = "is already the issuer of another provider, or commerce.issuer";
    let rows: [(Settings, &str); 28] = [
        (&[("commerce.authorization_key", "")], "commerce.authorization_key: is required with commerce.enabled"),
        (&[("commerce.signing_keys", "")], "commerce.signing_keys: is required with commerce.enabled"),
        (&[("commerce.context_keys", "")], "create it with `openssl rand -base64 32`"),
        (&[("commerce.signing_keys_file", "x")], "commerce.signing_keys: is set, and commerce.signing_keys_file too"),
        (&[(ISSUER, "")], "entra.issuer = \"\": must be an https URL"),
        (&[(AUDIENCE, "")], "entra.audience = \"\": must list the accepted aud claims"),
        (&[("commerce.issuer", "https://login.example.com")], duplicate),
        (
            &[
                ("commerce.identity_providers.okta.issuer", "https://login.example.com"),
                ("commerce.identity_providers.okta.audience", "shop"),
            ],
            duplicate,
        ),
        (&[OPEN], "commerce.bind = \"\": must be a separate port when server.bind is not loopback"),
        (
            &[OPEN, ("commerce.enabled", ""), (API_KEYS, "")],
            "no caller is configured: configure server.callers, or bind to loopback, or set server.allow_unauthenticated",
        ),
        (
            &[("server.callers.x.stores", "S")],
            "server.callers.x.api_key_sha256 = \"\": must be set, or certificate_subj",
        ),
        (&[("server.callers.x.api_key_sha256", DIGEST)], "server.callers.x.api_key_sha256: contains a key that caller"),
        (&[("management.bind", "0.0.0.0:0")], "is not loopback: set management.token"),
        (&[("management.bind", "127.0.0.1:8080")], "management.bind = \"127.0.0.1:8080\": must not be the API's port"),
        (&[("management.bind", "[::ffff:127.0.0.1]:8080")], "must not be the API's port"),
        (&[("management.bind", "0.0.0.0:8080"), ("management.token", AUTH_KEY)], "must not be the API's port"),
        (&[("commerce.bind", "127.0.0.1:9090")], "must differ from server.bind and management.bind"),
        (&[("tls.certificate", "Cargo.toml")], "tls.key = \"\": is required with tls.certificate"),
        (&[("tls.key", "Cargo.toml")], "tls.certificate = \"\": is required with tls.key"),
        (&[("tls.client_authority", "Cargo.toml")], "needs tls.certificate and tls.key"),
        (&[("storage.url", "postgres://u@127.0.0.1:1/d")], "security.hash_key: is required with PostgreSQL"),
        (&[("rate_limit.ca", "Cargo.toml")], "is used only with rate_limit.url"),
        (&[("directory.token", "t")], "directory.token: is used only with an identity backend"),
        (&[("directory.ca", "Cargo.toml")], "set directory.url, or remove this setting"),
        (&[("directory.client_certificate", "Cargo.toml")], "set directory.url, or remove"),
        (&[("directory.client_key", "Cargo.toml")], "set directory.url, or remove"),
        (
            &[("telemetry.otlp_endpoint", "http://collector.example"), ("telemetry.otlp_headers", "a=hush")],
            "must be an https URL when telemetry.otlp_headers is set",
        ),
        (
            &[("telemetry.otlp_endpoint", "ftp://collector.example"), ("telemetry.otlp_headers", "a=hush")],
            "telemetry.otlp_endpoint: must be an http or https URL",
        ),
    ];
    assert_none(rows.into_iter().filter_map(|(settings, message)| {
        let error = error_with(settings);
        let is_one = error.contains(message) && error.matches("\n  ").count() == 1 && !error.contains("hush");
        (!is_one).then(|| format!("{message:?} is not the problem of {settings:?}: {error}"))
    }));
}

#[test]
fn valid_settings_are_accepted() {
    const OPEN: Settings = &[("server.bind", "0.0.0.0:0"), (API_KEYS, ""), ("server.allow_unauthenticated", "true")];
    let origins = "https://shop.example.com, http://localhost:3000,https://shop.example.com:8443";
    let two_digests = [DIGEST, &DIGEST.to_uppercase().replace('A', "B")].join(",");
    let rows: [Settings; 26] = [
        &[],
        &[("commerce.enabled", "false")],
        &[("commerce.signing_keys", LONG)],
        &[("commerce.allowed_origins", origins)],
        &[(API_KEYS, &two_digests)],
        &[(ISSUER, "https://login.example.com/tenant/v2.0")],
        &[(ISSUER, "http://127.0.0.1:9/x")],
        &[(ISSUER, "http://[::1]:9")],
        &[(ISSUER, "http://localhost:9")],
        &[("directory.url", "http://[::1]:8080/who")],
        &[("directory.url", "http://localhost/")],
        &[("directory.url", "http://127.0.0.2:1")],
        &[("management.bind", "127.0.0.2:8080")],
        &[("management.bind", "[::]:0"), ("management.token", AUTH_KEY)],
        &[("server.bind", "0.0.0.0:0"), ("commerce.bind", "127.0.0.1:1")],
        &[OPEN, &[("commerce.share_port", "true")]].concat(),
        &[OPEN, &[("commerce.bind", "127.0.0.1:1")]].concat(),
        &[OPEN, &[("server.bind", "127.0.0.1:0")]].concat(),
        &[("telemetry.otlp_endpoint", "https://collector.example"), ("telemetry.otlp_headers", "a=b")],
        &[("telemetry.otlp_endpoint", "http://127.0.0.1:4318"), ("telemetry.otlp_headers", "a=b")],
        &[("storage.url", "postgres://u:p%40%2Fss@db.example.com/d"), ("security.hash_key", KEY)],
        // The last @ ends the password.
        &[("storage.url", "postgres://u:p@ss@db.example.com:5432/d"), ("security.hash_key", KEY)],
        &[("storage.url", "postgres://db.example.com/d?user=u@server&password=p@ss"), ("security.hash_key", KEY)],
        &[("storage.url", "postgres:///d?host=/run/postgresql"), ("security.hash_key", KEY)],
        &[
            ("storage.url", "postgres://u@127.0.0.1:1/d?sslmode=verify-full&sslrootcert=Cargo.toml"),
            ("security.hash_key", KEY),
        ],
        &[("scan_key.single_use", "true"), ("scan_key.signing_keys", KEY)],
    ];
    assert_none(rows.into_iter().filter_map(|settings| load(Mode::Serve, &[&VALID, settings].concat()).err()));
}

#[test]
fn the_demo_listens_on_loopback_unless_it_is_published() {
    let allowed = ("server.allow_unauthenticated", "true");
    let token = ("management.token", AUTH_KEY);
    for elsewhere in ["0.0.0.0:9000", "[::]:9000", "192.0.2.1:9000", "[2001:db8::1]:9000", "10.0.0.1:9000"] {
        for setting in ["server.bind", "management.bind", "commerce.bind"] {
            let settings = [(setting, elsewhere), allowed, token];
            let error = load(Mode::Demo, &settings).expect_err(elsewhere);
            assert!(error.contains("pass --publish to listen on other addresses"), "{setting} {elsewhere}: {error}");
            assert!(load(Mode::PublishedDemo, &settings).is_ok(), "{setting} {elsewhere}");
            let refuses = load(Mode::Serve, &settings[..1]).is_err();
            assert_eq!(refuses, setting != "commerce.bind", "serve: {setting} {elsewhere}");
        }
    }
}

#[test]
fn a_misspelt_name_is_reported_with_a_suggestion() {
    let error = error_with(&[
        ("management.tokn", "hush-hush-hush-hush"),
        ("server.bnd", "127.0.0.1:1"),
        ("commerce.enabld", "true"),
        ("server.callers.amazon.api_key_sha265", DIGEST),
        ("commerce.identity_providers.entra.audiense", "shop"),
        ("commerce.identity_provider.okta.issuer", "x"),
    ]);
    for (name, suggestion) in [
        ("management.tokn", "management.token"),
        ("server.bnd", "server.bind"),
        ("commerce.enabld", "commerce.enabled"),
        ("server.callers.amazon.api_key_sha265", API_KEYS),
        ("commerce.identity_providers.entra.audiense", AUDIENCE),
        ("commerce.identity_provider.okta.issuer", "commerce.identity_providers.*.issuer"),
    ] {
        let wanted = format!("{name}: unknown setting; did you mean {suggestion}?");
        assert!(error.contains(&wanted), "{wanted} is not in {error}");
    }
    assert!(!error.contains("hush") && !error.contains(DIGEST), "{error}");
}

#[test]
fn a_variable_with_a_similar_name_is_refused_and_other_variables_are_ignored() {
    let load = |name: &str, value: &[u8]| {
        use std::os::unix::ffi::OsStringExt as _;
        let environment = HashMap::from([(name.into(), OsString::from_vec(value.to_vec()))]);
        Config::load(Mode::Demo, &Sources { environment, ..Sources::default() }).map_err(|error| error.to_string())
    };
    for (similar, meant) in [
        ("CONNECTOR_SERVER__BIND", "CONNECTOR__SERVER__BIND"),
        ("CONNECTOR_SERVER_BIND", "CONNECTOR__SERVER__BIND"),
        ("connector__server__bind", "CONNECTOR__SERVER__BIND"),
        ("Connector__Server__Bind", "CONNECTOR__SERVER__BIND"),
        ("CONNECTOR__Server__Bind", "CONNECTOR__SERVER__BIND"),
        ("CONNECTOR__SERVER__CALLERS__Amazon__API_KEY_SHA256", "CONNECTOR__SERVER__CALLERS__AMAZON__API_KEY_SHA256"),
    ] {
        let error = load(similar, b"127.0.0.1:1").expect_err(similar);
        assert!(error.contains(&format!("{similar}: unknown variable; did you mean {meant}?")), "{error}");
    }
    for other in ["CONNECTOR_URL", "CONNECTOR_API_KEY", "CONNECTOR_SERVICE_HOST", "SERVER__BIND"] {
        assert!(load(other, b"x").is_ok(), "{other}");
    }
    let error = load("CONNECTOR__MANAGEMENT__TOKEN", &[0xff; 20]).expect_err("not Unicode");
    assert!(error.contains("CONNECTOR__MANAGEMENT__TOKEN: must be text in UTF-8"), "{error}");
}

/// Only a file can set an empty value, or a value of another type.
#[test]
fn mistakes_in_a_configuration_file_are_reported_without_its_values() {
    for (toml, wanted) in [
        ("[server\n", "line 1: "),
        ("[server]\nbinds = 1\n", "server.binds: unknown setting"),
        ("server = 1", "server: is a section, not a setting"),
        ("[server.bind]", "server.bind: is a setting, not a section"),
        ("[server.bind]\nport = 1", "server.bind.port: unknown setting"),
        ("[server]\ntrusted_proxies = [{ a = 1 }]", "server.trusted_proxies: must be one value"),
        ("[server]\ntrusted_proxies = ['10.0.0.0/8', '0.0.0.0/0']", "0.0.0.0/0 covers every address"),
        ("[log]\nlevel = ''", "log.level = \"\": must be off or error"),
        ("[management]\ntoken = hush-hush-hush-hush-hush", "line 2: "),
        ("[management]\ntoken = 'hush-hush-hush-hush-hush", "line 2: "),
        ("[commerce.identity_providers.entra]\nalgorithms = []", "must be one or more of RS256, ES256 and EdDSA"),
        ("[commerce.identity_providers.entra]\ncustomer_claim = ''", "must name a claim, such as sub"),
        ("[commerce.identity_providers.\"En tra\"]\nissuer = 'x'", "must have a name of 1 to 32 lower-case letters"),
        ("[server.callers.\"Ama zon\"]\nstores = 'x'", "must have a name of 1 to 32 lower-case letters"),
    ] {
        let file = write(toml);
        let error = Config::load(Mode::Serve, &in_file(&file, &VALID[2..])).expect_err(toml).to_string();
        assert!(error.contains(wanted) && !error.contains("hush"), "{toml}\n{error}");
        assert!(!wanted.starts_with("line") || error.contains(text(&file)), "{error}");
    }
    let missing = Sources { file: Some("/nonexistent/c.toml".into()), ..Sources::default() };
    let error = Config::load(Mode::Demo, &missing).expect_err("no such file").to_string();
    assert!(error.contains("configuration file: /nonexistent/c.toml: "), "{error}");
    let example = Sources { file: Some("deploy/connector.example.toml".into()), ..Sources::default() };
    let error = Config::load(Mode::Serve, &example).expect_err("its API key is a placeholder").to_string();
    assert!(error.contains(&format!("{API_KEYS} = ")) && error.contains("is a placeholder"), "{error}");
}

#[test]
fn a_missing_file_is_reported_with_the_name_of_its_setting() {
    let tls = [("tls.certificate", "Cargo.toml"), ("tls.key", "Cargo.toml")];
    let file_settings: [(&str, Settings); 17] = [
        ("commerce.authorization_key_file", &[]),
        ("commerce.context_keys_file", &[]),
        ("commerce.signing_keys_file", &[]),
        ("directory.ca", &[BACKEND]),
        ("directory.client_certificate", &[BACKEND, ("directory.client_key", "Cargo.toml")]),
        ("directory.client_key", &[BACKEND, ("directory.client_certificate", "Cargo.toml")]),
        ("directory.token_file", &[BACKEND]),
        ("management.token_file", &[]),
        ("rate_limit.ca", &[("rate_limit.url", "rediss://localhost")]),
        ("rate_limit.url_file", &[]),
        ("scan_key.signing_keys_file", &[("scan_key.single_use", "true")]),
        ("security.hash_key_file", &[]),
        ("storage.url_file", &[]),
        ("telemetry.otlp_headers_file", &[]),
        ("tls.certificate", &tls),
        ("tls.client_authority", &tls),
        ("tls.key", &tls),
    ];
    let file_variants = DEFAULTS.lines().filter(|line| line.contains("_file = ")).count();
    let tested = file_settings.iter().filter(|(name, _)| name.ends_with("_file")).count();
    assert_eq!(file_variants, tested, "each `_file` setting is in the list");
    for (name, others) in file_settings {
        for path in ["/nonexistent/file", "src", "src/\u{1}none"] {
            let error = load(Mode::Serve, &[others, &[(name, path)]].concat()).expect_err(name);
            assert!(error.contains(&format!("{name} = {path:?}: cannot be read: ")), "{name} = {path}: {error}");
            assert!(!error.contains("single_use"), "{error}");
        }
    }
    for name in ["sslrootcert", "sslcert", "sslkey"] {
        let url = format!("postgres://u@127.0.0.1:1/d?sslmode=verify-full&{name}=/nonexistent/x.pem");
        let error = error_with(&[("storage.url", &url), ("security.hash_key", KEY)]);
        let wanted = format!("storage.url: {name} = \"/nonexistent/x.pem\": cannot be read: No such file");
        assert!(error.contains(&wanted), "{error}");
    }
}

#[test]
fn a_path_that_cannot_be_a_sqlite_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("folder")).expect("a folder");
    std::fs::write(folder.path().join("notes.txt"), "not a database, but longer than the header").expect("a file");
    std::fs::write(folder.path().join("short"), "x").expect("a file");
    let inside = |name: &str| format!("{}/{name}", folder.path().display());
    for (path, what) in [
        (":memory:".to_owned(), "use memory:"),
        (inside("folder"), "is a folder: name a file in it, such as "),
        (inside("folder"), "folder/connector.db"),
        (inside("folder/"), "is a folder"),
        (inside("new/"), "is a folder"),
        (inside("folder/.."), "is a folder"),
        (".".to_owned(), "is a folder"),
        ("/dev/null".to_owned(), "is not a regular file"),
        ("x.db?mode=rwc".to_owned(), "must be only a path"),
        (inside("notes.txt"), "is not a SQLite database"),
        (inside("short"), "is not a SQLite database"),
    ] {
        let error =
            load_storage(&sources(&[("storage.url", &format!("sqlite://{path}"))])).expect_err(what).to_string();
        assert!(error.contains(&format!("storage.url: {path}: ")) && error.contains(what), "{what}: {error}");
    }
}

/// A certificate that is its own authority, and its key, in PEM.
fn certified() -> [tempfile::NamedTempFile; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    [write(made.cert.pem()), write(made.signing_key.serialize_pem())]
}

#[test]
fn certificate_files_that_cannot_be_used_are_refused_and_their_content_is_not_repeated() {
    let ([certificate, key], [_, other_key]) = (certified(), certified());
    let (empty, hush) = (write(""), write("-----BEGIN PRIVATE KEY-----\naHVzaA==\n"));
    let [certificate, key, other_key, empty, hush] = [&certificate, &key, &other_key, &empty, &hush].map(text);
    let (cert, cert_key, authority) = ("tls.certificate", "tls.key", "tls.client_authority");
    let (client, client_key) = ("directory.client_certificate", "directory.client_key");
    let one_ca = "must be a PEM file with at least one certificate";
    let own_port = ("commerce.bind", "127.0.0.1:0");
    let rows: [(Settings, &str); 14] = [
        (&[(cert, certificate), (cert_key, other_key)], &format!("tls.key = {other_key:?}: does not match tls.certif")),
        (&[(cert, key), (cert_key, key)], "must contain certificates in PEM"),
        (
            &[(cert, certificate), (cert_key, hush)],
            "must contain a private key in PEM, PKCS#8, PKCS#1 or SEC1, that is",
        ),
        (&[(cert, certificate), (cert_key, key), (authority, empty), own_port], "tls.client_authority = "),
        (&[(cert, certificate), (cert_key, key), (authority, empty), own_port], "must contain certificates"),
        (
            &[(cert, certificate), (cert_key, key), (authority, certificate)],
            "commerce.bind = \"\": must be a separate port with tls.client_authority",
        ),
        (&[BACKEND, ("directory.ca", empty)], one_ca),
        (&[BACKEND, ("directory.ca", hush)], one_ca),
        (&[BACKEND, ("directory.ca", key)], one_ca),
        (&[BACKEND, (client, certificate)], "needs directory.client_key too"),
        (&[BACKEND, (client_key, key)], "needs directory.client_certificate too"),
        (&[BACKEND, (client, hush), (client_key, key)], "directory.client_certificate = "),
        (&[BACKEND, (client, certificate), (client_key, hush)], "directory.client_certificate = "),
        (&[BACKEND, (client, certificate), (client_key, other_key)], "directory.client_certificate = "),
    ];
    let private = std::fs::read_to_string(key).expect("the key");
    for (settings, wanted) in rows {
        let error = error_with(settings);
        assert!(error.contains(wanted) && error.matches("\n  ").count() == 1, "{wanted:?}: {settings:?}: {error}");
        assert!(!error.contains("aHVzaA") && !private.lines().any(|line| error.contains(line)), "{error}");
    }
    let tls = [(cert, certificate), (cert_key, key), (authority, certificate)];
    let all = "all three files are reported";
    let error = error_with(&[(cert, key), (cert_key, hush), (authority, empty)]);
    assert!([cert, cert_key, authority].iter().all(|name| error.contains(&format!("{name} = "))), "{all}: {error}");
    assert!(load(Mode::Demo, &tls).is_err_and(|error| error.contains("must be a separate port")));
    // Without client certificates or without the shopper API, one port is enough.
    for settings in
        [&tls[..2], &[tls.as_slice(), &[("commerce.enabled", "false")]].concat(), &[&tls[..], &[own_port]].concat()]
    {
        assert!(load(Mode::Serve, &[&VALID, settings].concat()).is_ok(), "{settings:?}");
    }
}
