//! An OpenID provider whose documents and keys a test controls.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Server;
use super::keys::Key;
use super::postgres::{free_port, listener};
use super::shopper::UNLIMITED;

/// The audience of the tokens.
pub(crate) const AUDIENCE: &str = "shop";

/// The answer to a request for a document.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Json(Value),
    /// A status, and a body that need not be JSON.
    Text(u16, String),
    Redirect(String),
    /// No answer, for longer than any time-out.
    Silence,
}

/// A provider on loopback. It stops when dropped.
#[derive(Debug)]
pub(crate) struct Provider {
    address: SocketAddr,
    published: Arc<Published>,
    running: Mutex<JoinSet<()>>,
}

#[derive(Debug)]
struct Published {
    discovery: Mutex<Document>,
    keys: Mutex<Document>,
    /// The number of requests for each document.
    discoveries: AtomicUsize,
    fetches: AtomicUsize,
}

impl Provider {
    /// Starts a provider that publishes these public keys.
    pub(crate) async fn start(keys: &[&Key]) -> Self {
        let (address, listener) = listener().await;
        let provider = Self::with_address(address);
        provider.publish(keys);
        provider.serve(listener);
        provider
    }

    /// Starts a provider that publishes these public keys, and a connector that trusts it. Returns them with the claims
    /// of a valid token.
    pub(crate) async fn trusted(keys: &[&Key], settings: &[(&str, &str)]) -> (Self, Server, Value) {
        let provider = Self::start(keys).await;
        let server = provider.connector(settings).await;
        let claims = provider.claims(server.clock.now());
        (provider, server, claims)
    }

    /// A provider that is not started yet.
    pub(crate) fn not_started() -> Self {
        Self::with_address(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())))
    }

    fn with_address(address: SocketAddr) -> Self {
        let nothing = Document::Text(404, String::new());
        let published = Published {
            discovery: Mutex::new(nothing.clone()),
            keys: Mutex::new(nothing),
            discoveries: AtomicUsize::new(0),
            fetches: AtomicUsize::new(0),
        };
        let provider = Self { address, published: Arc::new(published), running: Mutex::default() };
        provider.discovery(Document::Json(provider.usual_discovery()));
        provider
    }

    /// Starts the provider, on the same port.
    pub(crate) async fn resume(&self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }

    fn serve(&self, listener: TcpListener) {
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/{tenant}/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .with_state(Arc::clone(&self.published));
        self.running.lock().unwrap().spawn(async move { axum::serve(listener, routes).await.unwrap() });
    }

    /// Stops the provider: new connections are refused.
    pub(crate) async fn stop(&self) {
        let mut running = std::mem::take(&mut *self.running.lock().unwrap());
        running.shutdown().await;
    }

    /// The issuer name.
    pub(crate) fn issuer(&self) -> String {
        self.url("")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The discovery document of a provider that no test has changed.
    pub(crate) fn usual_discovery(&self) -> Value {
        json!({ "issuer": self.issuer(), "jwks_uri": self.url("/keys") })
    }

    /// Publishes these public keys, and no others.
    pub(crate) fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.key_set(Document::Json(json!({ "keys": keys })));
    }

    pub(crate) fn key_set(&self, document: Document) {
        *self.published.keys.lock().unwrap() = document;
    }

    pub(crate) fn discovery(&self, document: Document) {
        *self.published.discovery.lock().unwrap() = document;
    }

    /// The number of requests for the keys.
    pub(crate) fn fetches(&self) -> usize {
        self.published.fetches.load(Ordering::SeqCst)
    }

    /// The number of requests for the discovery document.
    pub(crate) fn discoveries(&self) -> usize {
        self.published.discoveries.load(Ordering::SeqCst)
    }

    /// The settings for a connector that trusts this provider.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("commerce.identity_providers.test.issuer", self.issuer()),
            ("commerce.identity_providers.test.audience", AUDIENCE.to_owned()),
        ]
    }

    /// A connector that trusts this provider, without a request limit.
    pub(crate) async fn connector(&self, settings: &[(&str, &str)]) -> Server {
        let trusting = self.settings();
        let trusting = trusting.iter().map(|(name, value)| (*name, value.as_str()));
        let settings: Vec<_> = UNLIMITED.into_iter().chain(trusting).chain(settings.iter().copied()).collect();
        Server::demo(&settings).await
    }

    /// The claims of a valid token.
    pub(crate) fn claims(&self, now: DateTime<Utc>) -> Value {
        let now = now.timestamp();
        json!({ "iss": self.issuer(), "sub": "customer-1", "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3600 })
    }
}

async fn discovery(State(published): State<Arc<Published>>) -> Response {
    published.discoveries.fetch_add(1, Ordering::SeqCst);
    let document = published.discovery.lock().unwrap().clone();
    document.answer().await
}

async fn keys(State(published): State<Arc<Published>>) -> Response {
    published.fetches.fetch_add(1, Ordering::SeqCst);
    let document = published.keys.lock().unwrap().clone();
    document.answer().await
}

impl Document {
    async fn answer(self) -> Response {
        match self {
            Self::Json(json) => ([(header::CONTENT_TYPE, "application/json")], json.to_string()).into_response(),
            Self::Text(status, text) => (StatusCode::from_u16(status).unwrap(), text).into_response(),
            Self::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
            Self::Silence => {
                tokio::time::sleep(Duration::from_secs(600)).await; // longer than any client waits
                StatusCode::GATEWAY_TIMEOUT.into_response()
            }
        }
    }
}
