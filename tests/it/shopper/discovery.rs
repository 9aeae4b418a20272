//! Discovery: where a provider says its keys are, and which documents are refused.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::checks::{assert_one_within, set};
use crate::support::Server;
use crate::support::keys::{Key, rsa};
use crate::support::provider::{AUDIENCE, Document, Provider};
use crate::support::shopper::{ACCEPTED, UNLIMITED, assert_tokens, assert_unavailable, context, retry_until_accepted};

/// More than the longest document that is read.
const TOO_LONG: usize = 600 * 1024;

/// Asserts the outcome of a token of each of these issuers, which one connector trusts. A row is what is special about
/// an issuer, and the issuer.
async fn assert_issuers(issuers: &[(String, String)], expected: &str) {
    let mut settings = UNLIMITED.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    for (number, (_, issuer)) in issuers.iter().enumerate() {
        let provider = format!("commerce.identity_providers.p{number}");
        settings.extend([
            (format!("{provider}.issuer"), issuer.clone()),
            (format!("{provider}.audience"), AUDIENCE.into()),
        ]);
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let server = Server::demo(&settings).await;
    let now = server.clock.now().timestamp();
    let token =
        |issuer: &str| rsa().token(&json!({ "iss": issuer, "sub": "customer-1", "aud": AUDIENCE, "exp": now + 3600 }));
    assert_tokens(&server, issuers.iter().map(|(what, issuer)| (what, token(issuer), expected))).await;
}

/// Asserts that a connector gets no keys from providers on which these documents were set. Returns the providers.
async fn assert_no_keys(
    documents: Vec<(String, Document)>,
    set: impl Fn(&Provider, Document),
) -> Vec<(String, Provider)> {
    let mut providers = Vec::new();
    for (what, document) in documents {
        let provider = Provider::start(&[rsa()]).await;
        set(&provider, document);
        providers.push((what, provider));
    }
    let issuers: Vec<_> = providers.iter().map(|(what, provider)| (what.clone(), provider.issuer())).collect();
    assert_issuers(&issuers, "identity_provider_unavailable").await;
    providers
}

#[apply(test)]
async fn invalid_discovery_document_is_refused() {
    // In these texts, ISSUER is the issuer of the provider and PORT is its port.
    let good = json!({ "issuer": "ISSUER", "jwks_uri": "ISSUER/keys" });
    let issuers = json!(["https://evil.example", "ISSUER/", "http://localhost:PORT", "", ["ISSUER"], null]);
    let keys_at = json!([
        // The unspecified address, at which this provider itself would answer. A refused URL is never requested.
        "http://0.0.0.0:PORT/keys",
        "http://192.0.2.1/keys",
        "http://provider.example/keys",
        "http://127.0.0.1.example:PORT/keys",
        "ftp://127.0.0.1:PORT/keys",
        "file:///etc/passwd",
        "data:application/json,{\"keys\":[]}",
        "/keys",
        "keys",
        "",
        ["ISSUER/keys"],
        null,
    ]);
    let with = |member: &str, values: &Value| -> Vec<(u16, String)> {
        values
            .as_array()
            .unwrap()
            .iter()
            .map(|value| (200, set(good.clone(), member, value.clone()).to_string()))
            .collect()
    };
    let mut documents = [with("issuer", &issuers), with("jwks_uri", &keys_at)].concat();
    documents.extend(["", "<html>", "null", "[]", "{}", "{"].map(|text| (200, text.to_owned())));
    documents.extend([201, 202, 203, 206, 400, 404, 500, 503].map(|status| (status, good.to_string())));
    documents.extend([(204, String::new()), (200, set(good, "padding", "x".repeat(TOO_LONG)).to_string())]);
    let mut documents: Vec<_> = documents
        .into_iter()
        .map(|(status, text)| (format!("{status} {text:.120}"), Document::Text(status, text)))
        .collect();
    let other = Provider::start(&[rsa()]).await;
    let elsewhere = Document::Redirect(other.url("/.well-known/openid-configuration"));
    documents.push(("a redirect".to_owned(), elsewhere));
    let fill_in = |provider: &Provider, document: Document| {
        let issuer = provider.issuer();
        let (_, port) = issuer.rsplit_once(':').unwrap();
        provider.discovery(match document {
            Document::Text(status, text) => {
                Document::Text(status, text.replace("ISSUER", &issuer).replace("PORT", port))
            }
            other => other,
        });
    };
    for (what, provider) in assert_no_keys(documents, fill_in).await {
        assert_eq!((provider.discoveries() > 0, provider.fetches()), (true, 0), "{what}");
    }
    assert_eq!(other.discoveries(), 0, "redirects are not followed");
}

#[apply(test)]
async fn invalid_key_set_is_refused() {
    let texts = ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{}]}"#, "{"];
    let mut documents = texts.map(|text| (text.to_owned(), Document::Text(200, text.to_owned()))).to_vec();
    let not_allowed = json!({ "keys": [Key::ec("rsa").jwk(), Key::ed("rsa").jwk()] });
    let too_long = json!({ "keys": [rsa().jwk()], "padding": "x".repeat(TOO_LONG) });
    let other = Provider::start(&[rsa()]).await;
    documents.extend([
        ("keys for algorithms that are not allowed".to_owned(), Document::Json(not_allowed)),
        ("more than 512 KiB".to_owned(), Document::Json(too_long)),
        ("a redirect".to_owned(), Document::Redirect(other.url("/keys"))),
    ]);
    for (what, provider) in assert_no_keys(documents, Provider::key_set).await {
        assert!(provider.fetches() > 0, "{what}");
    }
    assert_eq!(other.fetches(), 0, "redirects are not followed");
}

#[apply(test)]
async fn documents_may_be_large_and_elsewhere_on_the_same_machine() {
    let [large, on_two_ports, key_server] =
        [Provider::start(&[]).await, Provider::start(&[]).await, Provider::start(&[rsa()]).await];
    large.key_set(Document::Json(json!({ "keys": [rsa().jwk()], "padding": "x".repeat(400 * 1024) })));
    on_two_ports.discovery(Document::Json(set(on_two_ports.usual_discovery(), "jwks_uri", key_server.url("/keys"))));
    let mut issuers =
        vec![("400 KiB".to_owned(), large.issuer()), ("keys on another port".to_owned(), on_two_ports.issuer())];
    // The documents of an issuer with a path are below that path.
    let tenants = [Provider::start(&[rsa()]).await, Provider::start(&[rsa()]).await];
    for (provider, path) in tenants.iter().zip(["/tenant", "/tenant/"]) {
        provider.discovery(Document::Json(set(provider.usual_discovery(), "issuer", provider.url(path))));
        issuers.push((path.to_owned(), provider.url(path)));
    }
    assert_issuers(&issuers, ACCEPTED).await;
    assert_eq!((on_two_ports.fetches(), key_server.fetches()), (0, 1));
}

#[apply(test)]
async fn request_waits_only_briefly_for_a_slow_provider() {
    let provider = Provider::start(&[rsa()]).await;
    // A request waits at most 3 s for the keys. The fetch itself may take 5 s.
    assert_one_within(Duration::from_secs(5), "a silent provider", async || {
        provider.discovery(Document::Silence);
        let server = provider.connector(&[]).await;
        let token = rsa().token(&provider.claims(server.clock.now()));
        let begun = Instant::now();
        assert_unavailable(&context(&server, &token).await);
        let took = begun.elapsed();
        provider.discovery(Document::Json(provider.usual_discovery()));
        retry_until_accepted(&server, &token).await;
        took
    })
    .await;
}
