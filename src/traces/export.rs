//! Spans to whoever collects them: OTLP over HTTP, in protobuf, by a thread of its own.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanLimits,
    SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use reqwest::blocking::{Client, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect;
use secrecy::ExposeSecret as _;
use thiserror::Error;

use super::Settings;
use crate::cause::innermost;

/// How many spans may wait; further ones are dropped. A traced scan has four or five.
const QUEUE: usize = 4096;
/// How many go at once.
const BATCH: usize = 512;
/// How long they wait for others.
const EVERY: Duration = Duration::from_secs(1);
/// How long a batch may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How much of an answer is read, so that its connection serves the next batch.
const ANSWER: u64 = 64 * 1024;

/// There can be no exporter.
#[derive(Debug, Error)]
#[error("telemetry.otlp_endpoint: no spans can be exported: {0}")]
pub struct TracesError(String);

/// How many spans there were.
#[derive(Clone, Debug, Default)]
pub struct SpanCounters {
    /// Those that ended.
    pub ended: Counter,
    /// Those of them that were taken.
    pub exported: Counter,
    /// Those that were not.
    pub failed: Counter,
}

pub(super) async fn provider(settings: Settings, counters: SpanCounters) -> Result<SdkTracerProvider, TracesError> {
    let build = || build(settings, counters);
    // The client has a runtime of its own, which cannot be made inside of ours.
    tokio::task::spawn_blocking(build).await.map_err(|error| TracesError(error.to_string()))?
}

fn build(settings: Settings, counters: SpanCounters) -> Result<SdkTracerProvider, TracesError> {
    let Settings { endpoint, headers, service_name, .. } = settings;
    let mut all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))]);
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|_| TracesError("a header's name is none".to_owned()))?;
        let value = HeaderValue::from_str(value.expose_secret());
        let mut value = value.map_err(|_| TracesError(format!("the value of the header {name} is none")))?;
        value.set_sensitive(true);
        all.insert(name, value);
    }
    let client = client(&endpoint, all).map_err(|error| TracesError(innermost(&error)))?;
    let exporter = Otlp { client, endpoint, resource: ResourceAttributesWithSchema::default() };
    let exporter = Watched { exporter, counters: counters.clone(), is_failing: AtomicBool::new(false) };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(EVERY)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let service = Resource::builder_empty().with_service_name(service_name).with_attribute(version).build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn) // what is not to be sampled never becomes a span
        .with_span_limits(SpanLimits::default()) // and not what OTEL_… variables say
        .with_span_processor(Counted { processor, ended: counters.ended })
        .with_resource(service)
        .build())
}

fn client(endpoint: &str, headers: HeaderMap) -> Result<Client, reqwest::Error> {
    let is_plain = endpoint.starts_with("http:");
    // A redirect would take the headers along.
    let client = Client::builder()
        .default_headers(headers)
        .timeout(PATIENCE)
        .redirect(redirect::Policy::none())
        .https_only(!is_plain);
    if is_plain { client.no_proxy().tls_certs_only([]).build() } else { client.build() }
}

/// Posts spans by OTLP. That of `opentelemetry-otlp` also takes headers and a compression from `OTEL_…` variables, which no setting shows.
#[derive(Debug)]
struct Otlp {
    client: Client,
    endpoint: String,
    resource: ResourceAttributesWithSchema,
}

impl SpanExporter for Otlp {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let answer = self.client.post(&self.endpoint).body(body).send().and_then(Response::error_for_status);
        let answer = answer.map_err(|error| OTelSdkError::InternalFailure(innermost(&error)))?;
        // The spans were taken, whatever becomes of the rest of the answer.
        let _ = io::copy(&mut answer.take(ANSWER), &mut io::sink());
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// The exporter, watched: a collector that is gone is said once, and once that it is back.
#[derive(Debug)]
struct Watched {
    exporter: Otlp,
    counters: SpanCounters,
    is_failing: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len() as u64;
        let exported = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Ok(()) => {
                self.counters.exported.inc_by(number);
                if was_failing {
                    tracing::info!("spans are exported again");
                }
            }
            Err(error) => {
                self.counters.failed.inc_by(number);
                if !was_failing {
                    tracing::warn!(%error, "spans cannot be exported, and are dropped; nothing waits for them");
                }
            }
        }
        exported
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The queue, with a count of what comes to it.
#[derive(Debug)]
struct Counted {
    processor: BatchSpanProcessor,
    ended: Counter,
}

impl SpanProcessor for Counted {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.ended.inc();
        self.processor.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}
