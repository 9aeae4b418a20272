//! The baseline: the least work that a server on these libraries can do for a scan. It parses the JSON into a struct
//! and sends the same bytes as the connector for a fixed shopper. No TLS, no limits, no log, no decision.

use std::net::SocketAddr;

use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use identity_connector::testing::gate_api::IDENTITY_KEYS;
use serde::Deserialize;
use tokio::net::TcpListener;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "parsed but not used, so that the baseline includes the cost of parsing")]
struct Scan {
    request_id: String,
    identity_key: String,
    store_id: String,
    auth_event: AuthEvent,
    key_channel: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "parsed but not used, so that the baseline includes the cost of parsing")]
struct AuthEvent {
    id: String,
    timestamp: String,
    location: String,
}

/// Prints its address and serves until the process is killed.
pub(crate) fn serve() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        axum::serve(listener, Router::new().route(IDENTITY_KEYS, post(answer))).await.unwrap();
    });
}

async fn answer(Json(_scan): Json<Scan>) -> impl IntoResponse {
    const HEADERS: [(&str, &str); 3] =
        [("content-type", "application/json"), ("cache-control", "no-store"), ("x-content-type-options", "nosniff")];
    (HEADERS, r#"{"visitorDetails":{"id":"shopper-0000000000000000000000000000","type":"SHOPPER"}}"#)
}
