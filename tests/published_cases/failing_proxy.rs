//! A reverse proxy that answers the first requests itself with 500 or 429 and forwards the later ones. It simulates a
//! transient failure of any connector.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::connector::Connector;

/// The running proxy; stops when dropped.
pub(crate) struct FailingProxy {
    pub(crate) url: String,
    proxy: Arc<ProxyState>,
    serving: JoinHandle<()>,
}

struct ProxyState {
    client: Client,
    upstream: String,
    failures: usize,
    status: StatusCode,
    /// The bodies of the requests so far.
    seen: Mutex<Vec<Value>>,
}

impl FailingProxy {
    pub(crate) async fn start(connector: &Connector, failures: usize, status: u16) -> Result<Self, String> {
        let status = StatusCode::from_u16(status).map_err(|error| format!("failedWith: {error}"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("proxy: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("proxy: {error}"))?;
        let proxy = Arc::new(ProxyState {
            client: connector.client.clone(),
            upstream: connector.api.clone(),
            failures,
            status,
            seen: Mutex::default(),
        });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&proxy));
        let serving = tokio::spawn(async move {
            let _ended: Result<(), _> = axum::serve(listener, router).await;
        });
        Ok(Self { url: format!("http://{address}"), proxy, serving })
    }

    pub(crate) fn seen(&self) -> Vec<Value> {
        self.proxy.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for FailingProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl ProxyState {
    /// Stores the request's body; returns whether this request must fail.
    fn fails(&self, body: &[u8]) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(serde_json::from_slice(body).unwrap_or_default());
        seen.len() <= self.failures
    }
}

async fn pass(State(proxy): State<Arc<ProxyState>>, uri: Uri, mut headers: HeaderMap, body: Bytes) -> Response {
    if proxy.fails(&body) {
        let message = match proxy.status {
            StatusCode::TOO_MANY_REQUESTS => "Too Many Requests",
            _ => "Internal server error",
        };
        return (proxy.status, axum::Json(json!({ "message": message }))).into_response();
    }
    for own in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        headers.remove(own); // belong to the client's connection
    }
    let sent = proxy.client.post(format!("{}{uri}", proxy.upstream)).headers(headers).body(body).send().await;
    match sent {
        Ok(answer) => {
            let (status, content_type) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
            let headers: HeaderMap = content_type.map(|value| (header::CONTENT_TYPE, value)).into_iter().collect();
            (status, headers, answer.bytes().await.unwrap_or_default()).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("proxy: {error}")).into_response(),
    }
}
