//! Fetching what a provider publishes: where its keys are (OpenID Connect Discovery 1.0), and the keys.

use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use thiserror::Error;

use super::ProviderSettings;
use super::key_set::KeySet;
use crate::cause::root_cause;
use crate::loopback::is_plain_loopback;

/// How long each of the two requests may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest document that is read, in bytes.
const LONGEST: usize = 512 * 1024;

/// Why a provider's keys were not got.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("no client: {0}")]
    Client(String),
    #[error("{0}: {1}")]
    Request(&'static str, String),
    #[error("{0}: answered {1}")]
    Status(&'static str, u16),
    #[error("{0}: is longer than 512 KiB")]
    TooLong(&'static str),
    #[error("discovery: is not the document of this issuer")]
    NotItsIssuer,
    #[error("discovery: jwks_uri must be an https URL, as the issuer is")]
    KeysElsewhere,
    #[error("key set: is none")]
    NotAKeySet,
    #[error("key set: has no key for the algorithms that are allowed")]
    NoKey,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches a provider's keys.
pub(super) async fn fetch(provider: &ProviderSettings) -> Result<KeySet, FetchError> {
    let is_plain = provider.issuer.as_str().starts_with("http:");
    let mut client = Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).https_only(!is_plain);
    if is_plain {
        // The configuration allows a plain issuer on loopback only, and the demo's own is on this machine: no proxy is asked, and there
        // are no root certificates to load.
        client = client.no_proxy().tls_certs_only([]);
    }
    let client = client.build().map_err(|error| FetchError::Client(root_cause(&error)))?;
    let url = format!("{}/.well-known/openid-configuration", provider.issuer.as_str().trim_end_matches('/'));
    let document = get(&client, &url, "discovery").await?;
    let Discovery { issuer, jwks_uri } = serde_json::from_slice(&document).map_err(|_| FetchError::NotItsIssuer)?;
    if issuer != provider.issuer.as_str() {
        return Err(FetchError::NotItsIssuer);
    }
    let keys_at = Url::parse(&jwks_uri).map_err(|_| FetchError::KeysElsewhere)?;
    // A demo that is published on one address of this machine serves its own keys there, without TLS.
    let is_own = || Url::parse(&issuer).is_ok_and(|issuer| issuer.origin() == keys_at.origin());
    if !(keys_at.scheme() == "https" || is_plain && (is_plain_loopback(&keys_at) || is_own())) {
        return Err(FetchError::KeysElsewhere);
    }
    let document = get(&client, keys_at.as_str(), "key set").await?;
    let keys = KeySet::read(&document, &provider.algorithms).ok_or(FetchError::NotAKeySet)?;
    if keys.counts().kept == 0 { Err(FetchError::NoKey) } else { Ok(keys) }
}

async fn get(client: &Client, url: &str, what: &'static str) -> Result<Vec<u8>, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Request(what, root_cause(&error));
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != 200 {
        return Err(FetchError::Status(what, response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        document.extend_from_slice(&chunk);
        if document.len() > LONGEST {
            return Err(FetchError::TooLong(what));
        }
    }
    Ok(document)
}
