//! Traces over OTLP: the spans of a request, the decision whether to trace it, and that no answer waits for the
//! collector.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use proptest::prelude::*;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::checks::{assert_most_within, assert_one_within};
use crate::support::collector::{Collector, attribute};
use crate::support::random::check_random;
use crate::support::{Answer, IDENTITY_KEYS, MANAGEMENT_TOKEN, Server, scan, scan_with_key, secrets};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

async fn ask(server: &Server, body: &Value, traceparent: &str) -> Answer {
    let request = server.client.post(format!("{}{IDENTITY_KEYS}", server.api)).header("traceparent", traceparent);
    Answer::read(request.body(body.to_string()).send().await.unwrap()).await
}

/// A connector that traces this share of requests, and at most `requested` traces a second that callers request.
async fn start_tracing_server(collector: &Collector, ratio: &str, requested: &str) -> Server {
    let settings = [
        ("telemetry.otlp_endpoint", collector.url.as_str()),
        ("telemetry.sample_ratio", ratio),
        ("telemetry.callers_traces_per_second", requested),
    ];
    Server::demo(&settings).await
}

/// The spans of scans. A demo also sends requests to its own identity provider.
fn scans(spans: &[Span]) -> Vec<&Span> {
    spans.iter().filter(|span| attribute(span, "http.route").as_deref() == Some(IDENTITY_KEYS)).collect()
}

/// Waits for the span of one scan and the spans of its steps.
async fn one_scan(collector: &Collector) -> (Span, Vec<Span>) {
    let spans = collector.wait_until(|spans| !scans(spans).is_empty()).await;
    let [scan] = scans(&spans)[..] else { panic!("{spans:#?}") };
    let of_trace = |span: &&Span| span.trace_id == scan.trace_id && span.span_id != scan.span_id;
    (scan.clone(), spans.iter().filter(of_trace).cloned().collect())
}

#[apply(test)]
async fn scan_span_joins_the_callers_trace_with_a_child_span_for_each_step() {
    let collector = Collector::start().await;
    let server = start_tracing_server(&collector, "1", "0").await;
    let body = scan();
    assert_eq!(ask(&server, &body, &format!("00-{TRACE}-{PARENT}-01")).await.status, 200);

    let (request, steps) = one_scan(&collector).await;
    assert_eq!(request.kind, SpanKind::Server as i32);
    assert_eq!((hex::encode(&request.trace_id), hex::encode(&request.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(request.name, "POST /v1/identity/identity-keys");
    let value_of = |key: &str| attribute(&request, key).unwrap_or_default();
    let expected = [
        ("http.request.method", "POST"),
        ("http.route", IDENTITY_KEYS),
        ("http.response.status_code", "200"),
        ("connector.decision", "accepted"),
        ("connector.reason", "accepted"),
        ("connector.store_id", "STORE-001"),
        ("connector.request_id", body["requestId"].as_str().unwrap()),
        ("connector.auth_event_id", body["authEvent"]["id"].as_str().unwrap()),
    ];
    for (key, value) in expected {
        assert_eq!(value_of(key), value, "{key} of {request:#?}");
    }
    let mut names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["directory.identity_key", "directory.store", "ledger.record"]);
    for step in &steps {
        assert_eq!(step.kind, SpanKind::Internal as i32);
        assert_eq!((&step.trace_id, &step.parent_span_id), (&request.trace_id, &request.span_id), "{step:#?}");
        assert!(step.start_time_unix_nano >= request.start_time_unix_nano);
        assert!(step.end_time_unix_nano <= request.end_time_unix_nano);
    }
    assert!(collector.spans().iter().all(|(service, _)| service == "identity-connector"));
}

#[apply(test)]
async fn fault_marks_its_span_and_probes_are_not_traced() {
    let collector = Collector::start().await;
    let server = start_tracing_server(&collector, "1", "0").await;
    for path in ["/livez", "/readyz", "/nowhere"] {
        server.client.get(format!("{}{path}", server.api)).send().await.unwrap();
    }
    server.metrics().await;
    assert_eq!(server.verify(&scan_with_key(b"unavailable_backend_key")).await.status, 500);
    let (request, steps) = one_scan(&collector).await;
    assert_eq!(attribute(&request, "http.response.status_code").as_deref(), Some("500"));
    assert_eq!(attribute(&request, "error.type").as_deref(), Some("directory_unavailable"));
    assert_eq!(request.status.as_ref().unwrap().code, 2);
    let failed = steps.iter().find(|span| span.name == "directory.identity_key").unwrap();
    assert_eq!(failed.status.as_ref().unwrap().code, 2);
    assert!(!failed.status.as_ref().unwrap().message.contains("unavailable"), "the error message is only in the log");
    let routes: Vec<_> = collector.spans().iter().filter_map(|(_, span)| attribute(span, "http.route")).collect();
    for untraced in ["livez", "readyz", "probe", "nowhere", "unmatched", "metrics", "management"] {
        assert!(routes.iter().all(|route| !route.contains(untraced)), "{routes:?}");
    }
}

#[apply(test)]
async fn traces_requested_by_callers_are_limited() {
    let collector = Collector::start().await;
    let server = start_tracing_server(&collector, "0", "3").await;
    let began = Instant::now();
    for number in 0..60 {
        // A sampler by trace id would select each of these trace ids.
        ask(&server, &scan(), &format!("00-{:032x}-{PARENT}-01", number + 1)).await;
    }
    // The limit allows a burst of three, then three a second.
    let most = 3 + 3 * (began.elapsed().as_secs() + 1);
    collector.wait_until(|spans| scans(spans).len() >= 3).await;
    server.stopped().await;
    let spans: Vec<Span> = collector.spans().into_iter().map(|(_, span)| span).collect();
    let traced = scans(&spans).len() as u64;
    assert!((3..=most).contains(&traced), "{traced} of 60, at most {most}");
}

#[apply(test)]
async fn nothing_is_traced_with_ratio_0_and_no_caller_traces() {
    let collector = Collector::start().await;
    let server = start_tracing_server(&collector, "0", "0").await;
    for flags in ["00", "01"] {
        assert_eq!(ask(&server, &scan(), &format!("00-{TRACE}-{PARENT}-{flags}")).await.status, 200);
    }
    server.stopped().await;
    assert!(collector.sent().is_empty());
}

#[apply(test)]
async fn queued_spans_are_exported_at_the_stop() {
    // A stop waits at most a second for the last spans.
    assert_one_within(Duration::from_secs(1), "a stop", async || {
        let collector = Collector::start().await;
        let server = start_tracing_server(&collector, "1", "0").await;
        for _ in 0..20 {
            server.verify(&scan()).await;
        }
        let began = Instant::now();
        server.stopped().await;
        let took = began.elapsed();
        if took < Duration::from_secs(1) {
            let spans: Vec<Span> = collector.spans().into_iter().map(|(_, span)| span).collect();
            let steps = spans.iter().filter(|span| span.name == "ledger.record").count();
            assert_eq!((scans(&spans).len(), steps), (20, 20));
        }
        took
    })
    .await;
}

#[apply(test)]
async fn exports_carry_the_configured_headers_and_service_name() {
    let collector = Collector::start().await;
    let settings = [
        ("telemetry.otlp_endpoint", collector.url.as_str()),
        ("telemetry.otlp_headers", "authorization=Bearer collector-secret, x-tenant=shop"),
        ("telemetry.sample_ratio", "1"),
        ("telemetry.service_name", "gates of the north"),
    ];
    let server = Server::demo(&settings).await;
    server.verify(&scan()).await;
    collector.wait_until(|spans| !spans.is_empty()).await;
    let (headers, _) = &collector.sent()[0];
    assert_eq!(headers["authorization"], "Bearer collector-secret");
    assert_eq!(
        (&headers["x-tenant"], &headers["content-type"]),
        (&"shop".parse().unwrap(), &"application/x-protobuf".parse().unwrap())
    );
    assert_eq!(collector.spans()[0].0, "gates of the north");
    drop(server);
}

/// A collector that accepts connections and never answers.
async fn start_silent_collector() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (format!("http://{}", listener.local_addr().unwrap()), listener)
}

#[apply(test)]
async fn unreachable_collector_delays_no_answer() {
    let (silent, _listener) = start_silent_collector().await;
    let closed = "http://127.0.0.1:1".to_owned(); // no process listens on this port
    // A scan has four spans, and the queue holds 4096 spans. The one of the silent collector is full before the end.
    for (endpoint, scans) in [(silent, 1_200), (closed, 200)] {
        let settings = [("telemetry.otlp_endpoint", endpoint.as_str()), ("telemetry.sample_ratio", "1")];
        let server = Server::demo(&settings).await;
        let mut took = Vec::new();
        for _ in 0..scans {
            let began = Instant::now();
            assert_eq!(server.verify(&scan()).await.status, 200);
            took.push(began.elapsed());
        }
        assert_most_within(99, Duration::from_secs(1), &took, &endpoint);
        // Eight batches wait, each of which may take 3 s. A stop that waited for all would take longer than `stopped`
        // allows.
        server.stopped().await;
    }
}

#[apply(test)]
async fn no_secret_is_exported() {
    let collector = Collector::start().await;
    let server = start_tracing_server(&collector, "1", "0").await;
    let keys = [
        "valid_shopper_key",
        "device_shopper_key",
        "associate_key",
        "unavailable_backend_key",
        "test-identity-key",
        "JWOIMAG18bc0554d045a48b29afa9e2aaac14ae",
        "JWOACME0123456789abcdef0123456789abcdef1707501237",
    ];
    for key in keys {
        let mut body = scan_with_key(key.as_bytes());
        server.verify(&body).await;
        body["storeId"] = Value::Null;
        let request = server.client.post(format!("{}{IDENTITY_KEYS}?identityKey=secret-in-a-query", server.api));
        let request =
            request.header("tracestate", "secret=in-tracestate").header("authorization", "Bearer secret-bearer");
        request.header("traceparent", format!("00-{TRACE}-{PARENT}-01")).body(body.to_string()).send().await.unwrap();
    }
    for path in ["identity-keys/secret-in-a-path", "stores/STORE-001"] {
        server.client.get(format!("{}/admin/v1/{path}", server.management)).send().await.unwrap();
    }
    let body = r#"{"anonymousId":"11111111-2222-3333-4444-5555secret55"}"#;
    let tokens = server.client.post(format!("{}/commerceapi/authentication/", server.shoppers));
    tokens.header("x-auth-key", "demo-authorization-key").body(body).send().await.unwrap();
    collector.wait_until(|spans| spans.len() > 30).await;
    server.stopped().await;
    let others = [MANAGEMENT_TOKEN, "demo-authorization-key", "0123456789abcdef0123456789abcdef", "shopper-uuid-001"];
    let sent = ["secret-in-a-query", "in-tracestate", "secret-bearer", "secret-in-a-path", "5555secret55"];
    assert!(collector.spans().len() > 30);
    for (_, body) in collector.sent() {
        let hidden = keys.iter().chain(&others).chain(&sent);
        secrets::assert_none_of(hidden, &String::from_utf8_lossy(&body), "the spans");
    }
}

#[apply(test)]
async fn trace_headers_do_not_change_the_answer() {
    let collector = Collector::start().await;
    let server = start_tracing_server(&collector, "0.5", "1000").await;
    let similar = "[0-9a-f]{2}-[0-9a-f]{30,34}-[0-9a-f]{14,18}-[0-9a-f]{1,3}";
    let headers = prop_oneof![similar.prop_map(String::from), "[ -~]{0,80}".prop_map(String::from)];
    check_random(256, headers, async |traceparent| {
        assert_eq!(ask(&server, &scan(), &traceparent).await.status, 200);
    });
}
