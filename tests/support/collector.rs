//! A small trace collector: OTLP over HTTP, in protobuf.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::checks::repeat_until;

/// Received requests: headers and body.
type Sent = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// A collector on a free port. It stops when dropped.
pub(crate) struct Collector {
    pub(crate) url: String,
    sent: Sent,
    _running: JoinSet<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        Self::start_with_status(StatusCode::OK).await
    }

    /// A collector that answers with this status.
    pub(crate) async fn start_with_status(status: StatusCode) -> Self {
        let sent = Sent::default();
        let take = move |State(sent): State<Sent>, headers: HeaderMap, body: Bytes| async move {
            sent.lock().unwrap().push((headers, body));
            status
        };
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&sent));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut running = JoinSet::new();
        running.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, sent, _running: running }
    }

    /// All received requests.
    pub(crate) fn sent(&self) -> Vec<(HeaderMap, Bytes)> {
        self.sent.lock().unwrap().clone()
    }

    /// All received spans, each with its service name.
    pub(crate) fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for (_, body) in self.sent() {
            for resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
                let attributes = &resource.resource.as_ref().unwrap().attributes;
                let name = attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
                let Some(Value::StringValue(service)) = name.value.clone().unwrap().value else { panic!("{name:?}") };
                let scopes = resource.scope_spans.into_iter();
                spans.extend(scopes.flat_map(|scope| scope.spans).map(|span| (service.clone(), span)));
            }
        }
        spans
    }

    /// Waits until the received spans meet the condition, and returns them.
    pub(crate) async fn wait_until(&self, condition: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let spans = async || self.spans().into_iter().map(|(_, span)| span).collect::<Vec<_>>();
        repeat_until("spans", spans, |spans| condition(spans)).await
    }
}

/// The value of a span's attribute.
pub(crate) fn attribute(span: &Span, key: &str) -> Option<String> {
    let attribute = span.attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match attribute.value.clone()?.value? {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => panic!("{other:?}"),
    })
}
