//! What the descriptions of all ports share: refusals, credentials, and what the calls of a port have in common.
//!
//! The attribute `#[utoipa::path]` of each handler describes its call, and the routes are made from the same
//! attributes, so routes and document cannot differ. The status, message and headers of a refusal come from the
//! response that the error makes, so its description cannot differ from the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::http::HeaderName;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::IntoResponse;
use http_body_util::BodyExt as _;
use serde_json::Value;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;

use super::error::Refused;

pub(crate) const JSON: &str = "application/json";

/// The names of the security schemes.
pub(crate) const API_KEY: &str = "apiKey";
pub(crate) const CLIENT_CERTIFICATE: &str = "clientCertificate";
pub(crate) const MANAGEMENT_TOKEN: &str = "managementToken";
pub(crate) const BEARER: &str = "bearer";
pub(crate) const CUSTOMER_CONTEXT: &str = "customerContext";
pub(crate) const AUTHORIZATION_KEY: &str = "authorizationKey";

/// Describes what the calls of these routes have in common: refusals and, for calls without their own, tag and
/// credentials.
pub(crate) fn in_common<S: Clone + Send + Sync + 'static>(
    mut routes: OpenApiRouter<S>,
    tag: &str,
    credentials: &[&str],
    refusals: impl Fn() -> Refusals,
) -> OpenApiRouter<S> {
    let requirement = || credentials.iter().fold(SecurityRequirement::default(), |all, name| all.add(*name, [""; 0]));
    for operation in operations(routes.get_openapi_mut()) {
        operation.tags.get_or_insert_with(|| vec![tag.to_owned()]);
        operation.security.get_or_insert_with(|| vec![requirement()]);
        operation.responses.responses.extend(refusals().responses());
    }
    routes
}

/// Describes the bodies of these routes as optional. In an attribute, an optional body may be null too.
pub(crate) fn with_optional_bodies<S: Clone + Send + Sync + 'static>(mut routes: OpenApiRouter<S>) -> OpenApiRouter<S> {
    for operation in operations(routes.get_openapi_mut()) {
        if let Some(RefOr::T(body)) = &mut operation.request_body {
            body.required = None;
        }
    }
    routes
}

fn operations(api: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    let items = api.paths.paths.values_mut();
    items.flat_map(|item| [&mut item.get, &mut item.put, &mut item.post, &mut item.delete]).flatten()
}

/// The 500. Its message is always the same.
pub(crate) fn fault() -> Refused {
    Refused::internal("", String::new())
}

/// The name of the schema of every refusal.
const ERROR: &str = "Error";

/// Defines types for `responses(…)` in the attributes of handlers. Each describes the refusals of a call.
macro_rules! refusals {
    ($($name:ident = $refusals:expr;)+) => {$(
        pub(crate) enum $name {}

        impl utoipa::IntoResponses for $name {
            fn responses() -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::Response>> {
                $refusals.responses()
            }
        }
    )+};
}
pub(crate) use refusals;

/// The refusals of a call, by status.
#[derive(Default)]
pub(crate) struct Refusals(BTreeMap<u16, SameStatus>);

/// The refusals with one status.
#[derive(Default)]
struct SameStatus {
    bodies: Vec<Value>,
    /// Whether other messages are possible, which depend on the request.
    is_open: bool,
    headers: Vec<HeaderName>,
}

impl Refusals {
    /// Adds refusals with exactly these messages.
    pub(crate) fn exactly<E: IntoResponse>(self, errors: impl IntoIterator<Item = E>) -> Self {
        errors.into_iter().fold(self, |refusals, error| refusals.add(error, false))
    }

    /// Adds refusals with messages such as these. The real message depends on the request.
    pub(crate) fn such_as<E: IntoResponse>(self, errors: impl IntoIterator<Item = E>) -> Self {
        errors.into_iter().fold(self, |refusals, error| refusals.add(error, true))
    }

    fn add(mut self, error: impl IntoResponse, is_open: bool) -> Self {
        let response = error.into_response();
        let same = self.0.entry(response.status().as_u16()).or_default();
        for name in [RETRY_AFTER, WWW_AUTHENTICATE] {
            if response.headers().contains_key(&name) && !same.headers.contains(&name) {
                same.headers.push(name);
            }
        }
        same.is_open |= is_open;
        let body = read(response.into_body());
        if !same.bodies.contains(&body) {
            same.bodies.push(body);
        }
        self
    }

    pub(crate) fn responses(self) -> BTreeMap<String, RefOr<Response>> {
        self.0.into_iter().map(|(status, same)| (status.to_string(), same.response().into())).collect()
    }
}

impl SameStatus {
    fn response(self) -> Response {
        let description = match self.bodies.as_slice() {
            _ if self.is_open => "The message names the problem and its position.",
            [only] => message(only),
            _ => "One of several refusals. The message tells which.",
        };
        let response = ResponseBuilder::new().description(description);
        let examples =
            self.bodies.iter().map(|body| (name_of(message(body)), ExampleBuilder::new().value(Some(body.clone()))));
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(ERROR))).examples_from_iter(examples);
        let response = response.content(JSON, content.build());
        self.headers.iter().fold(response, |response, name| response.header(name.as_str(), header(name))).build()
    }
}

/// Moves each refusal with a single constant message to the components, since many calls share it. Adds the schema of
/// all refusals.
pub(crate) fn share(api: &mut OpenApi) {
    let (mut shared, mut reasons) = (BTreeMap::new(), BTreeSet::new());
    for response in operations(api).flat_map(|operation| operation.responses.responses.values_mut()) {
        let RefOr::T(Response { description, content, .. }) = response else { continue };
        let Some(RefOr::T(Content { examples, .. })) = content.get(JSON) else { continue };
        let bodies = examples.values().filter_map(|example| match example {
            RefOr::T(example) => example.value.as_ref(),
            RefOr::Ref(_) => None,
        });
        let bodies: Vec<&Value> = bodies.collect();
        let own_reasons = bodies.iter().filter_map(|body| body.get("reason")?.as_str().map(str::to_owned));
        reasons.extend(own_reasons);
        if let [only] = bodies.as_slice()
            && only.get("reason").is_none()
            && message(only) == description
        {
            let name = name_of(description);
            let reference = Ref::from_response_name(&name).into();
            shared.insert(name, std::mem::replace(response, reference));
        }
    }
    let components = api.components.get_or_insert_default();
    components.responses.extend(shared);
    components.schemas.insert(ERROR.to_owned(), error(reasons).into());
}

/// The schema of every refusal.
fn error(reasons: BTreeSet<String>) -> Schema {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let about = "For an app to act on. Only some refusals of the shopper's side have one.";
    ObjectBuilder::new()
        .description(Some("A refusal. Messages may change; reasons do not."))
        .property("message", text())
        .required("message")
        .property("reason", text().enum_values(Some(reasons)).description(Some(about)))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
        .into()
}

/// The JSON of a body that is complete.
fn read(body: Body) -> Value {
    match pin!(body.collect()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(body)) => serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
        _ => Value::Null,
    }
}

fn message(body: &Value) -> &str {
    body.get("message").and_then(Value::as_str).unwrap_or_default()
}

/// Turns a sentence into a name.
fn name_of(sentence: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>()).unwrap_or_default()
    };
    sentence.split(|letter: char| !letter.is_ascii_alphanumeric()).map(capital).collect()
}

fn header(name: &HeaderName) -> Header {
    let (schema, description) = if *name == RETRY_AFTER {
        (ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64)), "Retry after this many seconds.")
    } else {
        let scheme = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["Bearer"]));
        (scheme, "The required authentication scheme.")
    };
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
