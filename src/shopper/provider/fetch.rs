//! Fetches what a provider publishes: its discovery document (OpenID Connect Discovery 1.0), which says where its keys
//! are, and the keys.

use std::time::Duration;

use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use thiserror::Error;

use crate::cause::root_cause;
use crate::loopback::is_plain_loopback;
use crate::shopper::provider::ProviderSettings;
use crate::shopper::provider::key_set::KeySet;

/// The timeout of each of the two requests.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 512 * 1024;

/// The reason why a provider's keys could not be fetched.
#[derive(Debug, Error)]
pub(crate) enum FetchError {
    #[error("cannot create an HTTP client: {0}")]
    Client(String),
    #[error("{0}: {1}")]
    Request(&'static str, String),
    #[error("{0}: answered {1}")]
    Status(&'static str, u16),
    #[error("{0}: is longer than 512 KiB")]
    TooLong(&'static str),
    #[error("discovery: not a discovery document with this issuer")]
    WrongIssuer,
    #[error("discovery: jwks_uri must be an https URL")]
    InsecureKeyUrl,
    #[error("key set: not a JSON Web Key Set")]
    NotAKeySet,
    #[error("key set: no usable key for the configured algorithms")]
    NoKey,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Fetches a provider's keys.
pub(crate) async fn fetch(provider: &ProviderSettings) -> Result<KeySet, FetchError> {
    let is_plain = provider.issuer.as_str().starts_with("http:");
    let mut client =
        Client::builder().timeout(REQUEST_TIMEOUT).redirect(redirect::Policy::none()).https_only(!is_plain);
    if is_plain {
        // A plain HTTP issuer is allowed only on loopback, or for the demo's own provider on this machine. So no proxy
        // is used and no root certificates are loaded.
        client = client.no_proxy().tls_certs_only([]);
    }
    let client = client.build().map_err(|error| FetchError::Client(root_cause(&error)))?;
    let url = format!("{}/.well-known/openid-configuration", provider.issuer.as_str().trim_end_matches('/'));
    let document = get(&client, &url, "discovery").await?;
    let Discovery { issuer, jwks_uri } = serde_json::from_slice(&document).map_err(|_| FetchError::WrongIssuer)?;
    if issuer != provider.issuer.as_str() {
        return Err(FetchError::WrongIssuer);
    }
    let keys_at = Url::parse(&jwks_uri).map_err(|_| FetchError::InsecureKeyUrl)?;
    // A demo that is published on an address of this machine serves its own keys there, without TLS.
    let is_own = || Url::parse(&issuer).is_ok_and(|issuer| issuer.origin() == keys_at.origin());
    if !(keys_at.scheme() == "https" || is_plain && (is_plain_loopback(&keys_at) || is_own())) {
        return Err(FetchError::InsecureKeyUrl);
    }
    let document = get(&client, keys_at.as_str(), "key set").await?;
    let keys = KeySet::read(&document, &provider.algorithms).ok_or(FetchError::NotAKeySet)?;
    if keys.counts().kept == 0 { Err(FetchError::NoKey) } else { Ok(keys) }
}

async fn get(client: &Client, url: &str, document_name: &'static str) -> Result<Vec<u8>, FetchError> {
    let failed = |error: reqwest::Error| FetchError::Request(document_name, root_cause(&error));
    let mut response = client.get(url).send().await.map_err(failed)?;
    if response.status() != 200 {
        return Err(FetchError::Status(document_name, response.status().as_u16()));
    }
    let mut document = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        document.extend_from_slice(&chunk);
        if document.len() > MAX_DOCUMENT {
            return Err(FetchError::TooLong(document_name));
        }
    }
    Ok(document)
}
