//! The least that a server on these libraries could do for a scan: read the JSON into a struct, and answer what the connector answers,
//! to the byte, as if all were the same shopper. No TLS, no limit, no log, no decision.

use std::net::SocketAddr;

use axum::response::IntoResponse;
use axum::routing::post;
use axum::{Json, Router};
use identity_connector::http::IDENTITY_KEYS;
use serde::Deserialize;
use tokio::net::TcpListener;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read, as by anybody who would do something with it")]
struct Scan {
    request_id: String,
    identity_key: String,
    store_id: String,
    auth_event: AuthEvent,
    key_channel: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "read, as by anybody who would do something with it")]
struct AuthEvent {
    id: String,
    timestamp: String,
    location: String,
}

/// Serves until the process is ended, and prints where.
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
