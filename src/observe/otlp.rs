//! Exports spans to a collector: OTLP over HTTP with protobuf, on a separate thread.

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
use prometheus_client::registry::Registry;
use prost::Message as _;
use reqwest::blocking::{Client, ClientBuilder, Response};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use thiserror::Error;

use crate::cause::root_cause;
use crate::observe::metrics::readings;
use crate::observe::traces::Settings;
use crate::outgoing;

/// The maximum number of spans that wait for export; further ones are dropped. A traced scan has four or five spans.
const QUEUE: usize = 4096;
/// The maximum number of spans in one request.
const BATCH: usize = 512;
/// The maximum wait for a full batch.
const EXPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum time for one request.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of response bytes to read, so that the connection can be used again.
const MAX_ANSWER: u64 = 64 * 1024;

/// The exporter cannot be created.
#[derive(Debug, Error)]
#[error("telemetry.otlp_endpoint: cannot export spans: {0}")]
pub struct TracesError(String);

/// Counts spans.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpanCounters {
    /// Spans that ended.
    pub ended: Counter,
    /// Spans that the collector accepted.
    pub exported: Counter,
    /// Spans that could not be exported.
    pub failed: Counter,
}

impl SpanCounters {
    /// Adds the counters to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        readings! { registry, spans = self;
            /// Trace spans by outcome: ended, and of these exported or failed. Growth of failed means that the
            /// collector does not accept them.
            counter spans(outcome) =
                [("ended", &spans.ended), ("exported", &spans.exported), ("failed", &spans.failed)]
                    .map(|(outcome, counter)| (outcome, counter.get()));
        }
    }
}

pub(crate) async fn provider(settings: Settings, counters: SpanCounters) -> Result<SdkTracerProvider, TracesError> {
    let build = || build(settings, counters);
    // The blocking client creates its own runtime, which is not possible inside the connector's runtime.
    tokio::task::spawn_blocking(build).await.map_err(|error| TracesError(error.to_string()))?
}

fn build(settings: Settings, counters: SpanCounters) -> Result<SdkTracerProvider, TracesError> {
    let Settings { endpoint, headers, service_name, .. } = settings;
    let mut all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))]);
    for (name, value) in headers {
        let name: HeaderName = name.parse().map_err(|_| TracesError("a header name is not valid".to_owned()))?;
        let value = HeaderValue::from_str(value.expose_secret());
        let mut value = value.map_err(|_| TracesError(format!("the value of header {name} is not valid")))?;
        value.set_sensitive(true);
        all.insert(name, value);
    }
    let client = ClientBuilder::from(outgoing::client(&endpoint)).default_headers(all).timeout(EXPORT_TIMEOUT).build();
    let client = client.map_err(|error| TracesError(root_cause(&error)))?;
    let exporter = Exporter {
        client,
        endpoint,
        resource: ResourceAttributesWithSchema::default(),
        counters: counters.clone(),
        is_failing: AtomicBool::new(false),
    };
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(EXPORT_INTERVAL)
        .build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let service = Resource::builder_empty().with_service_name(service_name).with_attribute(version).build();
    Ok(SdkTracerProvider::builder()
        .with_sampler(Sampler::AlwaysOn) // sampling is decided before a span is created
        .with_span_limits(SpanLimits::default()) // instead of the limits of OTEL_… variables
        .with_span_processor(CountingProcessor { processor, ended: counters.ended })
        .with_resource(service)
        .build())
}

/// Posts spans by OTLP, counts them, and logs once when the export begins to fail and once when it works again. The
/// exporter of `opentelemetry-otlp` is not used because it also reads headers and compression from `OTEL_…` variables,
/// which `check-config` would not show.
#[derive(Debug)]
struct Exporter {
    client: Client,
    endpoint: String,
    resource: ResourceAttributesWithSchema,
    counters: SpanCounters,
    is_failing: AtomicBool,
}

impl Exporter {
    fn post(&self, batch: Vec<SpanData>) -> Result<(), reqwest::Error> {
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let answer = self.client.post(&self.endpoint).body(body).send().and_then(Response::error_for_status)?;
        // The collector has accepted the spans, even if reading the rest of the answer fails.
        let _ = io::copy(&mut answer.take(MAX_ANSWER), &mut io::sink());
        Ok(())
    }
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let number = batch.len() as u64;
        let exported = self.post(batch).map_err(|error| OTelSdkError::InternalFailure(root_cause(&error)));
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match &exported {
            Ok(()) => {
                self.counters.exported.inc_by(number);
                if was_failing {
                    tracing::info!("exporting spans again");
                }
            }
            Err(error) => {
                self.counters.failed.inc_by(number);
                if !was_failing {
                    tracing::warn!(%error, "cannot export spans to telemetry.otlp_endpoint, dropping them; scans are not affected");
                }
            }
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

/// Counts every span that ends, including spans that a full queue drops.
#[derive(Debug)]
struct CountingProcessor {
    processor: BatchSpanProcessor,
    ended: Counter,
}

impl SpanProcessor for CountingProcessor {
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
