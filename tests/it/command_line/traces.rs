//! Traces of the binary: log lines have the trace id, and no collector delays a stop.

use crate::trials::{apply, test};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::Span;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::checks::assert_one_within;
use crate::support::collector::{Collector, attribute};
use crate::support::{IDENTITY_KEYS, Process, client, scan, wait_until};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn ask(process: &Process, traceparent: Option<&str>) -> Value {
    let body = scan();
    let request = client().post(format!("{}{IDENTITY_KEYS}", process.api)).body(body.to_string());
    let request = traceparent.into_iter().fold(request, |request, value| request.header("traceparent", value));
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    body.get("requestId").cloned().unwrap_or_default()
}

fn line<'a>(log: &'a [Value], request_id: &Value) -> &'a Value {
    log.iter().find(|line| line["requestId"] == *request_id).unwrap()
}

#[apply(test)]
async fn a_log_line_has_the_trace_id_only_with_traces_enabled() {
    let collector = Collector::start().await;
    let settings = [("telemetry.otlp_endpoint", collector.url.as_str()), ("telemetry.sample_ratio", "1")];
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-00");
    let (traced, plain) = (Process::demo(&settings).await, Process::demo(&[]).await);
    let later = format!("cc-{TRACE}-00f067aa0ba902b7-00-of a later version");
    let ids = [
        ask(&traced, Some(&parent)).await,
        ask(&traced, None).await,
        ask(&plain, Some(&parent)).await,
        ask(&traced, Some(&later)).await,
    ];
    let is_scan = |span: &&Span| attribute(span, "http.route").as_deref() == Some(IDENTITY_KEYS);
    collector.wait_until(|spans| spans.iter().filter(is_scan).count() == 3).await;
    let (traced, plain) = (traced.stop().log(), plain.stop().log());
    assert_eq!(line(&traced, &ids[0])["traceId"], TRACE);
    assert_eq!(line(&traced, &ids[3])["traceId"], TRACE);
    let own = line(&traced, &ids[1])["traceId"].as_str().unwrap().to_owned();
    assert_eq!(line(&plain, &ids[2]).get("traceId"), None);
    let exported: Vec<String> = collector.spans().iter().map(|(_, span)| hex::encode(&span.trace_id)).collect();
    assert!(exported.contains(&own) && exported.contains(&TRACE.to_owned()), "{exported:?}");
}

#[apply(test)]
async fn variables_of_opentelemetry_do_not_change_what_is_sent() {
    let collector = Collector::start().await;
    let settings = [
        ("telemetry.otlp_endpoint", collector.url.as_str()),
        ("telemetry.otlp_headers", "x-ours=1,x-tenant=ours"),
        ("telemetry.sample_ratio", "1"),
    ];
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=theirs,x-theirs=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-tenant=theirs,x-theirs=1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_SERVICE_NAME", "theirs"),
        ("OTEL_SDK_DISABLED", "true"),
    ];
    let process = Process::with_variables(&settings, &variables).await;
    ask(&process, None).await;
    let is_scan = |span: &Span| attribute(span, "http.route").as_deref() == Some(IDENTITY_KEYS);
    let spans = collector.wait_until(|spans| spans.iter().any(is_scan)).await;
    let scan = spans.iter().find(|span| is_scan(span)).unwrap();
    assert_eq!(attribute(scan, "connector.decision").as_deref(), Some("accepted"));
    assert!(collector.spans().iter().all(|(service, _)| service == "identity-connector"));
    for (headers, _) in collector.sent() {
        assert_eq!((&headers["x-ours"], &headers["x-tenant"]), (&"1".parse().unwrap(), &"ours".parse().unwrap()));
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert!(!headers.contains_key("x-theirs") && !headers.contains_key("content-encoding"), "{headers:?}");
    }
}

#[apply(test)]
async fn a_stop_does_not_wait_for_a_collector_that_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = [("telemetry.otlp_endpoint", endpoint.as_str()), ("telemetry.sample_ratio", "1")];
    // The exporter waits up to 3 s for the answer to a batch. A stop must not wait for that.
    let limit = Duration::from_millis(2_900);
    assert_one_within(limit, "a stop", async || {
        let process = Process::demo(&settings).await;
        ask(&process, None).await;
        let began = Instant::now();
        let ended = process.stop();
        let took = began.elapsed();
        assert_eq!(ended.code, Some(0));
        // On a busy machine the signal may arrive when the exporter has given up; such an attempt takes longer.
        let is_early = ended.stderr.contains("stopped before every span was exported");
        assert!(is_early || took > limit, "{}", ended.stderr);
        took
    })
    .await;
}

#[apply(test)]
async fn a_collector_that_refuses_is_logged_once_and_without_secrets() {
    let collector = Collector::start_with_status(StatusCode::FORBIDDEN).await;
    let settings = [
        ("telemetry.otlp_endpoint", collector.url.as_str()),
        ("telemetry.otlp_headers", "authorization=Bearer collector-secret"),
        ("telemetry.sample_ratio", "1"),
    ];
    let process = Process::demo(&settings).await;
    // Wait until two batches were refused.
    wait_until("two batches were sent", async || {
        ask(&process, None).await;
        collector.sent().len() >= 2
    })
    .await;
    let ended = process.stop();
    let warnings = ended.stderr.matches("cannot export spans").count();
    assert_eq!(warnings, 1, "{}", ended.stderr);
    assert!(!ended.stderr.contains("collector-secret"), "{}", ended.stderr);
}
