//! Valid and invalid configurations of OpenID providers.

use crate::command_line::commerce_configuration::{
    AUTH_KEY, KEY, OTHER, assert_contains, enabled, error_of_refused_start,
};
use crate::support::{Ended, Process, client};
use crate::trials::{apply, test};

const ISSUER: &str = "commerce.identity_providers.entra.issuer";
const AUDIENCE: &str = "commerce.identity_providers.entra.audience";

#[apply(test)]
fn missing_and_invalid_settings_of_a_provider_are_reported() {
    let error = error_of_refused_start(&enabled(&[("commerce.identity_providers.entra.customer_claim", "sub")]));
    assert_contains(
        &error,
        &[
            "commerce.identity_providers.entra.issuer = \"\": must be an https URL",
            "commerce.identity_providers.entra.audience = \"\": must list the accepted aud claims",
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
        &format!("https://login.example.com/{}", "x".repeat(230)),
    ] {
        let error = error_of_refused_start(&enabled(&[(ISSUER, bad), (AUDIENCE, "shop")]));
        assert_contains(&error, &[&format!("{ISSUER} = {bad:?}: must be")]);
    }
    for good in
        ["https://login.example.com/tenant/v2.0", "http://127.0.0.1:9/x", "http://[::1]:9", "http://localhost:9"]
    {
        let checked = Ended::run(&["check-config"], &enabled(&[(ISSUER, good), (AUDIENCE, "shop")]));
        assert_eq!(checked.code, Some(0), "{good}: {}", checked.stderr);
    }
    let good = [(ISSUER, "https://login.example.com"), (AUDIENCE, "shop")];
    for bad in ["HS256", "none", "RS256,PS256", "rs256", ","] {
        let algorithms = ("commerce.identity_providers.entra.algorithms", bad);
        let error = error_of_refused_start(&enabled(&[&good[..], &[algorithms]].concat()));
        assert_contains(&error, &["algorithms", "must be one or more of RS256, ES256 and EdDSA"]);
    }
    // Only a file can set an empty value: an empty variable counts as unset.
    let file = tempfile::NamedTempFile::new().unwrap();
    let empty = "[commerce.identity_providers.entra]\nalgorithms = []\ncustomer_claim = ''\n";
    std::fs::write(file.path(), empty).unwrap();
    let checked = Ended::run(&["check-config", "--config", file.path().to_str().unwrap()], &enabled(&good));
    assert_eq!(checked.code, Some(64), "{}", checked.stdout);
    assert_contains(
        &checked.stderr,
        &["must be one or more of RS256, ES256 and EdDSA", "entra.customer_claim = \"\": must name a claim"],
    );
    let policy = ("commerce.identity_providers.entra.unknown_customers", "welcome");
    assert_contains(
        &error_of_refused_start(&enabled(&[&good[..], &[policy]].concat())),
        &["must be link_only or create_shopper"],
    );
}

#[apply(test)]
fn each_provider_and_the_connector_need_different_issuers() {
    let url = "https://login.example.com";
    let providers = [
        (ISSUER, url),
        (AUDIENCE, "shop"),
        ("commerce.identity_providers.okta.issuer", url),
        ("commerce.identity_providers.okta.audience", "shop"),
    ];
    let refusal = "is already the issuer of another provider, or commerce.issuer";
    assert_contains(
        &error_of_refused_start(&enabled(&providers)),
        &["commerce.identity_providers.okta.issuer", refusal],
    );
    let same_as_connector = [(ISSUER, url), (AUDIENCE, "shop"), ("commerce.issuer", url)];
    assert_contains(&error_of_refused_start(&enabled(&same_as_connector)), &[ISSUER, refusal]);
}

#[apply(test)]
fn a_misspelt_provider_setting_is_reported_with_a_suggestion() {
    let good = [(ISSUER, "https://login.example.com"), (AUDIENCE, "shop")];
    let misspelt =
        [("commerce.identity_providers.entra.audiense", "shop"), ("commerce.identity_provider.okta.issuer", "x")];
    let error = error_of_refused_start(&enabled(&[&good[..], &misspelt].concat()));
    assert_contains(
        &error,
        &[
            "commerce.identity_providers.entra.audiense: unknown setting; did you mean commerce.identity_providers.entra.audience?",
            "commerce.identity_provider.okta.issuer: unknown setting; did you mean commerce.identity_providers.*.issuer?",
        ],
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    let section =
        "[commerce.identity_providers.\"En tra\"]\nissuer = \"https://login.example.com\"\naudience = [\"shop\"]\n";
    std::fs::write(file.path(), section).unwrap();
    let ended = Ended::run(&["check-config", "--config", file.path().to_str().unwrap()], &enabled(&[]));
    assert_eq!(ended.code, Some(64), "{}", ended.stdout);
    assert_contains(&ended.stderr, &["must have a name of 1 to 32 lower-case letters, digits, - and _"]);
}

#[apply(test)]
async fn a_provider_can_be_defined_by_variables_alone_or_by_a_file() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("connector.toml");
    let section = "[commerce]\nenabled = true\n[commerce.identity_providers.okta]\nissuer = \"http://127.0.0.1:9/okta\"\naudience = [\"a\", \"b\"]\n";
    std::fs::write(&path, section).unwrap();
    let settings = enabled(&[(ISSUER, "http://127.0.0.1:9/entra"), (AUDIENCE, "shop")]);
    let ended = Ended::run(&["check-config", "--config", path.to_str().unwrap()], &settings);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_contains(
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
    // `serve` runs with these settings.
    let process = Process::start("serve", &settings).await;
    let url = format!("{}/commerceapi/authentication/", process.api);
    let answer = client().post(url).header("x-auth-key", AUTH_KEY).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}
