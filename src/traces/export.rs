//! Spans to whoever collects them: OTLP over HTTP, in protobuf, by a thread of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData, SpanExporter, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;
use reqwest::blocking::Client;
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
/// How long a batch may take, attempts and all.
const PATIENCE: Duration = Duration::from_secs(3);

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
    let client = client(&endpoint).map_err(|error| TracesError(innermost(&error)))?;
    let headers: HashMap<String, String> =
        headers.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())).collect();
    let exporter = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(PATIENCE)
        .with_headers(headers)
        .with_http_client(client)
        .build()
        .map_err(|error| TracesError(error.to_string()))?;
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
        .with_span_processor(Counted { processor, ended: counters.ended })
        .with_resource(service)
        .build())
}

fn client(endpoint: &str) -> Result<Client, reqwest::Error> {
    let is_plain = endpoint.starts_with("http:");
    // A redirect would take the headers along.
    let client = Client::builder().timeout(PATIENCE).redirect(redirect::Policy::none()).https_only(!is_plain);
    if is_plain { client.no_proxy().tls_certs_only([]).build() } else { client.build() }
}

/// The exporter, watched: a collector that is gone is said once, and once that it is back.
#[derive(Debug)]
struct Watched {
    exporter: OtlpExporter,
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
