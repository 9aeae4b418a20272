//! A bad configuration of the shopper's side: refused as any other, everything wrong at once, and no key told.

use crate::support::{Ended, Process, client};

/// 32 bytes each.
const KEY: &str = "dGhlIHNpZ25pbmcga2V5IG9mIHRoZXNlIHRlc3RzISE=";
const OTHER: &str = "b2xkIHNpZ25pbmcga2V5IG9mIHRoZSB0ZXN0cywgMzI=";
/// 16 bytes.
const SHORT: &str = "dG9vIHNob3J0LCBhIGtleQ==";
const AUTH_KEY: &str = "an-authorization-key-of-the-tests";

const ENABLED: (&str, &str) = ("commerce.enabled", "true");
const ISSUER: &str = "commerce.identity_providers.entra.issuer";
const AUDIENCE: &str = "commerce.identity_providers.entra.audience";

/// What `check-config` complains of; `serve` complains of the same before it opens anything.
fn refused(settings: &[(&str, &str)]) -> String {
    let [checked, served] = ["check-config", "serve"].map(|subcommand| {
        let ended = Ended::of(&[subcommand], settings);
        assert_eq!(ended.code, Some(64), "{settings:?}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stdout, "", "complaints go to standard error");
        ended
    });
    for secret in [KEY, OTHER, SHORT, AUTH_KEY, "short-key", "bm90"] {
        assert!(!checked.stderr.contains(secret) && !served.stderr.contains(secret), "{secret}: {}", served.stderr);
    }
    served.stderr
}

#[track_caller]
fn assert_says(error: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(error.contains(wanted), "{wanted:?} is missing from\n{error}");
    }
}

/// Settings with which it starts, and these.
fn enabled<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let good = [
        ENABLED,
        ("storage.url", "memory:"),
        ("commerce.authorization_key", AUTH_KEY),
        ("commerce.signing_keys", KEY),
        ("commerce.context_keys", OTHER),
    ];
    good.into_iter()
        .filter(|(name, _)| settings.iter().all(|(other, _)| other != name))
        .chain(settings.iter().copied())
        .collect()
}

#[test]
fn serve_makes_up_no_secret() {
    let error = refused(&[ENABLED]);
    for setting in ["commerce.authorization_key", "commerce.signing_keys", "commerce.context_keys"] {
        assert_says(&error, &[&format!("{setting}: is required with commerce.enabled")]);
    }
    assert_says(&error, &["openssl rand -base64 32"]);
    let off = Ended::of(&["check-config"], &[("commerce.enabled", "false"), ("storage.url", "memory:")]);
    assert_eq!(off.code, Some(0), "{}", off.stderr);
    let on = Ended::of(&["check-config"], &enabled(&[]));
    assert_eq!(on.code, Some(0), "{}", on.stderr);
}

#[test]
fn every_mistake_is_named_at_once_and_no_secret_is_told() {
    let keys = format!("{KEY},{SHORT}");
    let error = refused(&[
        ENABLED,
        ("commerce.authorization_key", "short-key"),
        ("commerce.signing_keys", &keys),
        ("commerce.context_keys", "bm90IDMyIGJ5dGVz"),
        ("commerce.token_lifetime", "25h"),
        ("commerce.requests_per_second", "0"),
        ("commerce.burst", "1000001"),
        ("commerce.failures_per_minute", "some"),
        ("commerce.max_in_flight", "0"),
        ("commerce.bind", "localhost:80"),
        ("commerce.issuer", ""),
        ("commerce.allowed_origins", "https://shop.example.com, https://shop.example.com/path"),
        ("commerce.code_lifetime", "2m"),
        ("commerce.codes_per_shopper", "0"),
        ("commerce.enabld", "true"),
    ]);
    assert_says(
        &error,
        &[
            "commerce.authorization_key: must have at least 16 characters",
            "commerce.signing_keys: key 2 must be 32 bytes or more in Base64",
            "commerce.context_keys: key 1 must be 32 bytes in Base64",
            "commerce.token_lifetime = \"25h\": must be a duration with its unit, 1m to 1d",
            "commerce.requests_per_second = \"0\": must be a whole number, 1 to 1000000",
            "commerce.burst = \"1000001\": must be a whole number, 1 to 1000000",
            "commerce.failures_per_minute = \"some\": must be a whole number, 1 to 1000000",
            "commerce.max_in_flight = \"0\": must be a whole number, 1 to 100000",
            "commerce.bind = \"localhost:80\": must be an IP address and a port",
            "commerce.issuer = \"\": must have 1 to 255 characters",
            "\"https://shop.example.com/path\" is no origin",
            "commerce.code_lifetime = \"2m\": must be a duration with its unit, 3m to 1h",
            "commerce.codes_per_shopper = \"0\": must be a whole number, 1 to 1000",
            "commerce.enabld: is no setting; did you mean commerce.enabled?",
        ],
    );
}

#[test]
fn keys_are_of_one_use_and_there_once() {
    let both = format!("{OTHER}, {KEY}");
    let error = refused(&enabled(&[("commerce.context_keys", &both)]));
    assert_says(&error, &["commerce.context_keys: must not have a key that is among commerce.signing_keys"]);
    let twice = format!("{KEY},{OTHER},{KEY}");
    let error = refused(&enabled(&[("commerce.signing_keys", &twice), ("commerce.context_keys", "")]));
    assert_says(&error, &["commerce.signing_keys: key 3 is there already", "commerce.context_keys: is required"]);
    for bad in ["not Base64!", &KEY[1..], SHORT] {
        let error = refused(&enabled(&[("commerce.signing_keys", bad)]));
        assert_says(&error, &["commerce.signing_keys: key 1 must be 32 bytes or more in Base64"]);
    }
    // A signing key may be longer; a context key may not.
    let long = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
    assert_eq!(Ended::of(&["check-config"], &enabled(&[("commerce.signing_keys", long)])).code, Some(0));
    assert_says(
        &refused(&enabled(&[("commerce.context_keys", long)])),
        &["commerce.context_keys: key 1 must be 32 bytes"],
    );
    let (file, missing) = (tempfile::NamedTempFile::new().unwrap(), "/nonexistent/keys");
    std::fs::write(file.path(), format!("{OTHER}\n")).unwrap();
    let path = file.path().to_str().unwrap();
    assert_says(
        &refused(&enabled(&[
            ("commerce.signing_keys_file", path),
            ("commerce.context_keys", ""),
            ("commerce.context_keys_file", missing),
        ])),
        &[
            "commerce.signing_keys: is set, and so is commerce.signing_keys_file",
            "commerce.context_keys_file = \"/nonexistent/keys\": cannot be read",
        ],
    );
}

#[test]
fn a_provider_is_told_what_it_lacks() {
    let error = refused(&enabled(&[("commerce.identity_providers.entra.customer_claim", "")]));
    assert_says(
        &error,
        &[
            "commerce.identity_providers.entra.issuer = \"\": must be an https URL",
            "commerce.identity_providers.entra.audience = \"\": must name what its tokens are meant for",
            "commerce.identity_providers.entra.customer_claim = \"\": must name a claim",
        ],
    );
    for bad in [
        "http://login.example.com",
        "http://127.0.0.1.example.com",
        "http://192.0.2.1",
        "ftp://127.0.0.1",
        "login.example.com",
        "https://login.example.com?tenant=1",
        "https://login.example.com/#x",
        "https://me@login.example.com",
        "JhooseCommerceApi",
    ] {
        let error = refused(&enabled(&[(ISSUER, bad), (AUDIENCE, "shop")]));
        assert_says(&error, &[&format!("{ISSUER} = {bad:?}: must be")]);
    }
    for good in
        ["https://login.example.com/tenant/v2.0", "http://127.0.0.1:9/x", "http://[::1]:9", "http://localhost:9"]
    {
        let checked = Ended::of(&["check-config"], &enabled(&[(ISSUER, good), (AUDIENCE, "shop")]));
        assert_eq!(checked.code, Some(0), "{good}: {}", checked.stderr);
    }
    let good = [(ISSUER, "https://login.example.com"), (AUDIENCE, "shop")];
    for bad in ["HS256", "none", "RS256,PS256", "rs256", "", ","] {
        let algorithms = ("commerce.identity_providers.entra.algorithms", bad);
        let error = refused(&enabled(&[&good[..], &[algorithms]].concat()));
        assert_says(&error, &["algorithms", "must be one or more of RS256, ES256 and EdDSA"]);
    }
    let policy = ("commerce.identity_providers.entra.unknown_customers", "welcome");
    assert_says(&refused(&enabled(&[&good[..], &[policy]].concat())), &["must be link_only or create_shopper"]);
}

#[test]
fn no_two_who_vouch_for_customers_have_one_name() {
    let url = "https://login.example.com";
    let providers = [
        (ISSUER, url),
        (AUDIENCE, "shop"),
        ("commerce.identity_providers.okta.issuer", url),
        ("commerce.identity_providers.okta.audience", "shop"),
    ];
    let refusal = "must be no other provider's, and not commerce.issuer";
    assert_says(&refused(&enabled(&providers)), &["commerce.identity_providers.okta.issuer", refusal]);
    let ours = [(ISSUER, url), (AUDIENCE, "shop"), ("commerce.issuer", url)];
    assert_says(&refused(&enabled(&ours)), &[ISSUER, refusal]);
}

#[test]
fn a_misspelt_setting_of_a_provider_is_pointed_out() {
    let good = [(ISSUER, "https://login.example.com"), (AUDIENCE, "shop")];
    let misspelt =
        [("commerce.identity_providers.entra.audiense", "shop"), ("commerce.identity_provider.okta.issuer", "x")];
    let error = refused(&enabled(&[&good[..], &misspelt].concat()));
    assert_says(
        &error,
        &[
            "commerce.identity_providers.entra.audiense: is no setting; did you mean commerce.identity_providers.*.audience?",
            "commerce.identity_provider.okta.issuer: is no setting; did you mean commerce.identity_providers.*.issuer?",
        ],
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let section =
        "[commerce.identity_providers.\"En tra\"]\nissuer = \"https://login.example.com\"\naudience = [\"shop\"]\n";
    std::fs::write(file.path(), section).unwrap();
    let ended = Ended::of(&["check-config", "--config", file.path().to_str().unwrap()], &enabled(&[]));
    assert_eq!(ended.code, Some(64), "{}", ended.stdout);
    assert_says(&ended.stderr, &["must have a name of 1 to 32 small letters, digits, - and _"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_alone_makes_a_provider_and_a_file_overrides_the_defaults() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("connector.toml");
    let section = format!(
        "[commerce]\nenabled = true\n[commerce.identity_providers.okta]\nissuer = \"http://127.0.0.1:9/okta\"\naudience = [\"a\", \"b\"]\n"
    );
    std::fs::write(&path, section).unwrap();
    let settings = enabled(&[(ISSUER, "http://127.0.0.1:9/entra"), (AUDIENCE, "shop")]);
    let ended = Ended::of(&["check-config", "--config", path.to_str().unwrap()], &settings);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_says(
        &ended.stdout,
        &[
            "commerce.identity_providers.entra.issuer = \"http://127.0.0.1:9/entra\"",
            "commerce.identity_providers.entra.algorithms = \"RS256\"",
            "commerce.identity_providers.okta.audience = \"a,b\"",
            "commerce.identity_providers.okta.customer_claim = \"sub\"",
            "commerce.signing_keys = (hidden)",
            "commerce.context_keys = (hidden)",
            "commerce.authorization_key = (hidden)",
        ],
    );
    for secret in [KEY, OTHER, AUTH_KEY] {
        assert!(!ended.stdout.contains(secret), "{}", ended.stdout);
    }
    // And it runs so.
    let process = Process::start("serve", &settings).await;
    let url = format!("{}/commerceapi/authentication/", process.api);
    let answer = client().post(url).header("x-auth-key", AUTH_KEY).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

#[test]
fn an_origin_is_a_scheme_and_a_host_and_no_more() {
    for bad in [
        "*",
        "null",
        "shop.example.com",
        "https://",
        "https://shop.example.com/",
        "https://SHOP.example.com",
        "https://shop.example.com:443",
        "https://*.example.com",
        "ftp://shop.example.com",
        "https://me@shop.example.com",
    ] {
        let error = refused(&enabled(&[("commerce.allowed_origins", bad)]));
        assert_says(
            &error,
            &["commerce.allowed_origins", &format!("{bad:?} is no origin, such as https://shop.example.com")],
        );
    }
    let good = "https://shop.example.com, http://localhost:3000,https://shop.example.com:8443";
    let checked = Ended::of(&["check-config"], &enabled(&[("commerce.allowed_origins", good)]));
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
}
