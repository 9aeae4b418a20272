//! Builds the description of one call. Refusals describe themselves: status, message and headers come from the response
//! that [`Refused`] makes.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::header;
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AdditionalProperties, Array, ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, Required, Response, ResponseBuilder};

use super::super::error::{Message, Refused};

pub(super) const JSON: &str = "application/json";
/// The schema of every refusal.
pub(super) const ERROR: &str = "Error";

/// A method on a path.
pub(super) struct Call {
    path: String,
    method: HttpMethod,
    operation: OperationBuilder,
    refusals: BTreeMap<u16, Refusals>,
}

/// The refusals with one status.
#[derive(Default)]
struct Refusals {
    /// Each message, with its reason for the app if it has one.
    messages: Vec<(String, Option<&'static str>)>,
    /// Whether other messages are possible, which depend on the request.
    is_open: bool,
    headers: Vec<header::HeaderName>,
}

/// The parts that several calls share.
#[derive(Default)]
pub(super) struct Shared {
    /// Responses by name.
    pub(super) responses: BTreeMap<String, Response>,
    reasons: BTreeSet<&'static str>,
}

impl Shared {
    /// The schema of every refusal.
    pub(super) fn error(&self) -> Schema {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let reason = text().enum_values(Some(self.reasons.clone()));
        let reason =
            reason.description(Some("For an app to act on. Only some refusals of the shopper's side have one."));
        ObjectBuilder::new()
            .description(Some("A refusal. Messages may change; reasons do not."))
            .property("message", text())
            .required("message")
            .property("reason", reason)
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .into()
    }
}

/// A reference to the schema with a type's name.
pub(super) fn schema_of<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

/// An array of such values.
pub(super) fn array_of<T: ToSchema>() -> RefOr<Schema> {
    Array::new(schema_of::<T>()).into()
}

/// A reference to the schema with a type's name, or null.
pub(super) fn nullable<T: ToSchema>() -> RefOr<Schema> {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    RefOr::T(OneOfBuilder::new().item(schema_of::<T>()).item(null).into())
}

/// A text of 1 to `longest` characters.
pub(super) fn text(longest: usize) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(longest))
}

impl Call {
    /// `id` is the operation id, from which generated clients take the name of the call.
    pub(super) fn new(method: HttpMethod, path: impl Into<String>, id: &str, summary: &str) -> Self {
        let operation = OperationBuilder::new().operation_id(Some(id)).summary(Some(summary));
        Self { path: path.into(), method, operation, refusals: BTreeMap::new() }
    }

    pub(super) fn described(self, description: &str) -> Self {
        self.with(|operation| operation.description(Some(description)))
    }

    pub(super) fn tagged(self, tag: &str) -> Self {
        self.with(|operation| operation.tag(tag))
    }

    /// Needs all of these credentials. Calling it again adds an alternative.
    pub(super) fn needs(self, schemes: &[&str]) -> Self {
        let all = schemes.iter().fold(SecurityRequirement::default(), |all, scheme| all.add(*scheme, [""; 0]));
        self.with(|operation| operation.security(all))
    }

    pub(super) fn parameter(self, name: &str, place: ParameterIn, description: &str, schema: ObjectBuilder) -> Self {
        let required = if place == ParameterIn::Path { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required);
        self.with(|operation| operation.parameter(parameter.description(Some(description)).schema(Some(schema))))
    }

    /// A required body.
    pub(super) fn takes(self, schema: RefOr<Schema>, example: Value) -> Self {
        self.body(schema, example, Required::True)
    }

    /// An optional body.
    pub(super) fn may_take(self, schema: RefOr<Schema>, example: Value) -> Self {
        self.body(schema, example, Required::False)
    }

    fn body(self, schema: RefOr<Schema>, example: Value, required: Required) -> Self {
        let content: Content = ContentBuilder::new().schema(Some(schema)).example(Some(example)).build();
        let body = RequestBodyBuilder::new().content(JSON, content).required(Some(required)).build();
        self.with(|operation| operation.request_body(Some(body)))
    }

    /// A 200 with a JSON body.
    pub(super) fn answers(self, description: &str, schema: RefOr<Schema>) -> Self {
        self.responds(
            200,
            ResponseBuilder::new().description(description).content(JSON, Content::new(Some(schema))).build(),
        )
    }

    pub(super) fn responds(self, status: u16, response: Response) -> Self {
        self.with(|operation| operation.response(status.to_string(), response))
    }

    /// Adds refusals with exactly these messages.
    pub(super) fn refuses(mut self, errors: impl IntoIterator<Item: Into<Refused>>) -> Self {
        for error in errors {
            self.refuse(error.into(), false);
        }
        self
    }

    /// Adds a refusal with an example of a message. The real message depends on the request.
    pub(super) fn refuses_such_as(mut self, error: impl Into<Refused>) -> Self {
        self.refuse(error.into(), true);
        self
    }

    /// Adds the messages of denials.
    pub(super) fn denies(mut self, status: u16, messages: impl IntoIterator<Item = &'static str>) -> Self {
        let refusals = self.refusals.entry(status).or_default();
        refusals.messages.extend(messages.into_iter().map(|message| (message.to_owned(), None)));
        self
    }

    fn refuse(&mut self, error: Refused, is_open: bool) {
        let reason = error.reason;
        let response = error.into_response();
        let refusals = self.refusals.entry(response.status().as_u16()).or_default();
        let message = response.extensions().get::<Message>();
        let message = message.map(|Message(message)| message.to_string()).unwrap_or_default();
        if !refusals.messages.contains(&(message.clone(), reason)) {
            refusals.messages.push((message, reason));
        }
        refusals.is_open |= is_open;
        for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
            if response.headers().contains_key(&name) && !refusals.headers.contains(&name) {
                refusals.headers.push(name);
            }
        }
    }

    /// Responses that other calls have too go to `shared`.
    pub(super) fn build(self, shared: &mut Shared) -> (String, PathItem) {
        let Self { path, method, mut operation, refusals } = self;
        for (status, refusals) in refusals {
            shared.reasons.extend(refusals.messages.iter().filter_map(|(_, reason)| *reason));
            let response: RefOr<Response> = match refusals.name() {
                Some(name) => {
                    let reference = Ref::from_response_name(&name);
                    shared.responses.insert(name, refusals.response());
                    reference.into()
                }
                None => refusals.response().into(),
            };
            operation = operation.response(status.to_string(), response);
        }
        (path, PathItem::new(method, operation))
    }

    fn with(mut self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        self.operation = change(self.operation);
        self
    }
}

impl Refusals {
    /// The name of a shared response: only one with a single constant message is shared.
    fn name(&self) -> Option<String> {
        let [(message, None)] = self.messages.as_slice() else { return None };
        (!self.is_open).then(|| name_of(message))
    }

    fn response(self) -> Response {
        let described = match self.messages.as_slice() {
            [(one, _)] if !self.is_open => one.clone(),
            _ if self.is_open => "The message names the problem and its position.".to_owned(),
            _ => "One of several refusals. The message tells which.".to_owned(),
        };
        let examples = self.messages.into_iter().map(|(message, reason)| {
            let value = match reason {
                Some(reason) => json!({ "message": message, "reason": reason }),
                None => json!({ "message": message }),
            };
            (name_of(&message), ExampleBuilder::new().value(Some(value)).build())
        });
        let error: RefOr<Schema> = Ref::from_schema_name(ERROR).into();
        let content = ContentBuilder::new().schema(Some(error)).examples_from_iter(examples);
        let response = ResponseBuilder::new().description(described).content(JSON, content.build());
        self.headers
            .into_iter()
            .fold(response, |response, name| response.header(name.as_str(), header_of(&name)))
            .build()
    }
}

/// Turns a sentence into a name.
fn name_of(sentence: &str) -> String {
    sentence.split(|letter: char| !letter.is_ascii_alphanumeric()).map(capital).collect()
}

/// Capitalizes the first letter of a word.
pub(super) fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn header_of(name: &header::HeaderName) -> utoipa::openapi::Header {
    let (schema, description) = if *name == header::RETRY_AFTER {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1_i64));
        (seconds, "Retry after this many seconds.")
    } else {
        (
            ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["Bearer"])),
            "The required authentication scheme.",
        )
    };
    HeaderBuilder::new().schema(Some(schema)).description(Some(description)).build()
}
