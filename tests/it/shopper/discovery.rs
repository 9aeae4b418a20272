//! Discovery: where a provider says its keys are, and which answers are refused.

use crate::trials::{apply, test};
use std::time::Duration;

use serde_json::{Value, json};

use crate::checks::assert_one_within;
use crate::shopper::key_rotation::{assert_unavailable, retry_until_accepted};
use crate::support::keys::rsa;
use crate::support::provider::{Document, Provider};
use crate::support::shopper::{context, reason_of};

/// Asserts that a connector gets no keys with this discovery document.
async fn assert_discovery_refused(discovery: Document, what: &str) {
    let provider = Provider::start(&[rsa()]).await;
    provider.discovery(discovery);
    assert_no_keys(&provider, what).await;
}

async fn assert_no_keys(provider: &Provider, what: &str) {
    let before = provider.fetches();
    let server = provider.connector(&[]).await;
    let token = rsa().token(&provider.claims(server.clock.now()));
    let (answer, reason) = reason_of(&server, context(&server, &token)).await;
    assert_eq!(reason, "identity_provider_unavailable", "{what}");
    assert_unavailable(&answer);
    assert_eq!(provider.fetches(), before, "{what}: the keys were requested");
}

#[apply(test)]
async fn document_of_another_issuer_is_refused() {
    let provider = Provider::start(&[rsa()]).await;
    let (issuer, keys_at) = (provider.issuer(), provider.url("/keys"));
    for other in [
        json!("https://evil.example"),
        json!(format!("{issuer}/")),
        json!(issuer.replace("127.0.0.1", "localhost")),
        json!(""),
        json!([issuer]),
        Value::Null,
    ] {
        provider.discovery(Document::Json(json!({ "issuer": other, "jwks_uri": keys_at })));
        assert_no_keys(&provider, &other.to_string()).await;
    }
}

#[apply(test)]
async fn keys_are_not_fetched_from_an_insecure_url() {
    let provider = Provider::start(&[rsa()]).await;
    let issuer = provider.issuer();
    for elsewhere in [
        // The unspecified address, at which this provider itself would answer. A refused URL is never requested.
        json!(provider.url("/keys").replace("127.0.0.1", "0.0.0.0")),
        json!("http://192.0.2.1/keys"),
        json!("http://provider.example/keys"),
        json!(provider.url("/keys").replace("127.0.0.1", "127.0.0.1.example")),
        json!(provider.url("/keys").replace("http:", "ftp:")),
        json!("file:///etc/passwd"),
        json!("data:application/json,{\"keys\":[]}"),
        json!("/keys"),
        json!("keys"),
        json!(""),
        json!([provider.url("/keys")]),
        Value::Null,
    ] {
        provider.discovery(Document::Json(json!({ "issuer": issuer, "jwks_uri": elsewhere })));
        assert_no_keys(&provider, &elsewhere.to_string()).await;
    }
}

#[apply(test)]
async fn keys_may_be_on_another_port_of_the_same_machine() {
    let [provider, key_server] = [Provider::start(&[]).await, Provider::start(&[rsa()]).await];
    let elsewhere = json!({ "issuer": provider.issuer(), "jwks_uri": key_server.url("/keys") });
    provider.discovery(Document::Json(elsewhere));
    let server = provider.connector(&[]).await;
    assert_eq!(context(&server, &rsa().token(&provider.claims(server.clock.now()))).await.status, 200);
    assert_eq!((provider.fetches(), key_server.fetches()), (0, 1));
}

#[apply(test)]
async fn redirects_are_not_followed() {
    let [provider, other] = [Provider::start(&[rsa()]).await, Provider::start(&[rsa()]).await];
    other.discovery(Document::Json(json!({ "issuer": provider.issuer(), "jwks_uri": provider.url("/keys") })));
    provider.discovery(Document::Redirect(other.url("/.well-known/openid-configuration")));
    assert_no_keys(&provider, "redirect of the discovery document").await;
    assert_eq!(other.discoveries(), 0);
    let provider = Provider::start(&[rsa()]).await;
    provider.key_set(Document::Redirect(other.url("/keys")));
    let server = provider.connector(&[]).await;
    let token = rsa().token(&provider.claims(server.clock.now()));
    assert_unavailable(&context(&server, &token).await);
    assert_eq!(other.fetches(), 0, "redirect of the keys");
    assert!(provider.fetches() >= 1);
}

#[apply(test)]
async fn invalid_documents_are_refused() {
    for text in ["", "<html>", "null", "[]", "{}", "{"] {
        assert_discovery_refused(Document::Text(text.to_owned()), text).await;
    }
    assert_discovery_refused(Document::Status(204), "204").await;
    let provider = Provider::start(&[rsa()]).await;
    let good = json!({ "issuer": provider.issuer(), "jwks_uri": provider.url("/keys") });
    for status in [201, 202, 203, 206, 400, 404, 500, 503] {
        provider.discovery(Document::JsonAs(status, good.clone()));
        assert_no_keys(&provider, &status.to_string()).await;
    }
    let provider = Provider::not_started();
    provider.resume().await;
    for keys in ["", "null", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{}]}"#, "{"] {
        provider.key_set(Document::Text(keys.to_owned()));
        let server = provider.connector(&[]).await;
        let token = rsa().token(&provider.claims(server.clock.now()));
        assert_unavailable(&context(&server, &token).await);
    }
}

#[apply(test)]
async fn huge_document_is_refused() {
    let padding = "x".repeat(600 * 1024);
    let provider = Provider::start(&[rsa()]).await;
    let good = json!({ "issuer": provider.issuer(), "jwks_uri": provider.url("/keys") });
    let mut huge = good.clone();
    huge["padding"] = padding.clone().into();
    provider.discovery(Document::Json(huge));
    assert_no_keys(&provider, "discovery").await;
    provider.discovery(Document::Json(good));
    provider.key_set(Document::Json(json!({ "keys": [rsa().jwk()], "padding": padding })));
    let server = provider.connector(&[]).await;
    let token = rsa().token(&provider.claims(server.clock.now()));
    assert_unavailable(&context(&server, &token).await);
    let large = json!({ "keys": [rsa().jwk()], "padding": "x".repeat(400 * 1024) });
    provider.key_set(Document::Json(large));
    retry_until_accepted(&server, &token).await;
}

#[apply(test)]
async fn request_waits_only_briefly_for_a_slow_provider() {
    let provider = Provider::start(&[rsa()]).await;
    let good = json!({ "issuer": provider.issuer(), "jwks_uri": provider.url("/keys") });
    // A request waits at most 3 s for the keys. The fetch itself may take 5 s.
    assert_one_within(Duration::from_secs(5), "a silent provider", async || {
        provider.discovery(Document::Silence);
        let server = provider.connector(&[]).await;
        let token = rsa().token(&provider.claims(server.clock.now()));
        let begun = std::time::Instant::now();
        assert_unavailable(&context(&server, &token).await);
        let took = begun.elapsed();
        provider.discovery(Document::Json(good.clone()));
        retry_until_accepted(&server, &token).await;
        took
    })
    .await;
}

#[apply(test)]
async fn documents_of_an_issuer_with_a_path_are_below_it() {
    let provider = Provider::start(&[rsa()]).await;
    for path in ["/tenant", "/tenant/"] {
        let issuer = provider.url(path);
        provider.discovery(Document::Json(json!({ "issuer": issuer, "jwks_uri": provider.url("/keys") })));
        let server = provider.connector(&[("commerce.identity_providers.test.issuer", &issuer)]).await;
        let mut claims = provider.claims(server.clock.now());
        claims["iss"] = issuer.into();
        assert_eq!(context(&server, &rsa().token(&claims)).await.status, 200, "{path}");
    }
}
