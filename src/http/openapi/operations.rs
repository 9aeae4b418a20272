//! Describes the calls of operations: probes, metrics, and the document itself.

use serde_json::json;
use utoipa::openapi::path::HttpMethod;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Content, ContentBuilder, RefOr, Response, ResponseBuilder};

use super::super::management::AdminError;
use super::super::probes::Status;
use super::super::{LIVEZ, METRICS, READYZ};
use super::call::{Call, JSON, schema_of};
use super::page::{DOCUMENT, PAGE};
use super::{MANAGEMENT_TOKEN, fault};
use crate::metrics::Format;

pub(super) const TAG: &str = "operations";

pub(super) fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    super::add::<Status>(schemas);
}

pub(super) fn calls() -> impl Iterator<Item = Call> {
    let probe = |description: &str, status: &str| {
        let content =
            ContentBuilder::new().schema(Some(schema_of::<Status>())).example(Some(json!({ "status": status })));
        answer(description, JSON, content.build())
    };
    let text = || Content::new(Some(RefOr::from(ObjectBuilder::new().schema_type(Type::String).build())));
    let object = || Content::new(Some(RefOr::from(ObjectBuilder::new().schema_type(Type::Object).build())));
    let metrics = ResponseBuilder::new()
        .description("All metrics.")
        .content(Format::OpenMetrics.content_type(), text())
        .content(Format::Plain.content_type(), text())
        .build();
    let calls = [
        Call::new(HttpMethod::Get, LIVEZ, "livez", "Check that the process runs")
            .needs(&[])
            .responds(200, probe("The process runs.", "alive")),
        Call::new(HttpMethod::Get, READYZ, "readyz", "Check that the connector accepts requests")
            .described("`degraded` means that the database or the identity backend does not answer. Recorded events are still answered.")
            .needs(&[])
            .responds(200, probe("The connector accepts requests: `ready` or `degraded`.", "ready"))
            .responds(503, probe("The connector is starting or draining.", "unready")),
        Call::new(HttpMethod::Get, METRICS, "metrics", "Get metrics in the OpenMetrics text format")
            .described("If `Accept` prefers `text/plain`, the format is the Prometheus text format 0.0.4.")
            .needs(&[])
            .needs(&[MANAGEMENT_TOKEN])
            .responds(200, metrics)
            .refuses([AdminError::Unauthorized.into(), fault()]),
        Call::new(HttpMethod::Get, DOCUMENT, "openapi", "Get this document")
            .needs(&[])
            .responds(200, answer("The document.", JSON, object())),
        Call::new(HttpMethod::Get, PAGE, "openapiPage", "Show this document as a page")
            .needs(&[])
            .responds(200, answer("The page.", "text/html; charset=utf-8", text())),
    ];
    calls.into_iter().map(|call| call.tagged(TAG))
}

fn answer(description: &str, content_type: &str, content: Content) -> Response {
    ResponseBuilder::new().description(description).content(content_type, content).build()
}
