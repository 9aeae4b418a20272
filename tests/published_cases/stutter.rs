//! A reverse proxy that stutters: it fails the first attempts itself, with 500 or 429, and passes on the later ones. With it, a
//! transient failure can be shown on any connector.

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

/// Serves until dropped.
pub(crate) struct Stutter {
    pub(crate) url: String,
    road: Arc<Road>,
    serving: JoinHandle<()>,
}

struct Road {
    client: Client,
    upstream: String,
    failures: usize,
    status: StatusCode,
    /// The bodies of the attempts so far.
    seen: Mutex<Vec<Value>>,
}

impl Stutter {
    pub(crate) async fn start(connector: &Connector, failures: usize, status: u16) -> Result<Self, String> {
        let status = StatusCode::from_u16(status).map_err(|error| format!("failedWith: {error}"))?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("proxy: {error}"))?;
        let address = listener.local_addr().map_err(|error| format!("proxy: {error}"))?;
        let road = Arc::new(Road {
            client: connector.client.clone(),
            upstream: connector.api.clone(),
            failures,
            status,
            seen: Mutex::default(),
        });
        let proxy = Router::new().fallback(pass).with_state(Arc::clone(&road));
        let serving = tokio::spawn(async move {
            let _ended: Result<(), _> = axum::serve(listener, proxy).await;
        });
        Ok(Self { url: format!("http://{address}"), road, serving })
    }

    pub(crate) fn seen(&self) -> Vec<Value> {
        self.road.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Stutter {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Road {
    /// Notes the attempt, and says whether it is one of those that fail.
    fn fails(&self, body: &[u8]) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(serde_json::from_slice(body).unwrap_or_default());
        seen.len() <= self.failures
    }
}

async fn pass(State(road): State<Arc<Road>>, uri: Uri, mut headers: HeaderMap, body: Bytes) -> Response {
    if road.fails(&body) {
        let message = match road.status {
            StatusCode::TOO_MANY_REQUESTS => "Too Many Requests",
            _ => "Internal server error",
        };
        return (road.status, axum::Json(json!({ "message": message }))).into_response();
    }
    for own in [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        headers.remove(own); // the next connection has its own
    }
    let sent = road.client.post(format!("{}{uri}", road.upstream)).headers(headers).body(body).send().await;
    match sent {
        Ok(answer) => {
            let (status, content_type) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
            let headers: HeaderMap = content_type.map(|value| (header::CONTENT_TYPE, value)).into_iter().collect();
            (status, headers, answer.bytes().await.unwrap_or_default()).into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("proxy: {error}")).into_response(),
    }
}
