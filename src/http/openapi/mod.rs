//! The OpenAPI document: what every port answers, told by the types that are written to the wire and by the refusals that leave through
//! [`ApiError`]; and a page to read it. Both are on the management port. They hold no secret, and a browser cannot send a token by itself, so
//! that neither asks for one.
//!
//! The demo's own page and what it asks for are no part of it.

mod administration;
mod call;
mod gate;
mod operations;
mod page;
mod shopper;

pub(super) use page::routes;

use utoipa::openapi::path::PathsBuilder;
use utoipa::openapi::schema::{ComponentsBuilder, Schema};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, OpenApiBuilder, RefOr, ServerBuilder};
use utoipa::{PartialSchema, ToSchema};

use super::error::ApiError;
use call::{Call, Shared};

/// The names of the credentials.
const API_KEY: &str = "apiKey";
const CLIENT_CERTIFICATE: &str = "clientCertificate";
const MANAGEMENT_TOKEN: &str = "managementToken";
const BEARER: &str = "bearer";
const CUSTOMER_CONTEXT: &str = "customerContext";
const AUTHORIZATION_KEY: &str = "authorizationKey";

const DESCRIPTION: &str = "\
The gate's call and the shopper's side are on `server.bind`; the latter on `commerce.bind`, where that is set. Administration and metrics are on \
`management.bind`. The probes are on each.

Every answer that is not a success is `{\"message\": \"…\"}`, on any path and to any method: 404 where there is no such path, 405 with `Allow` where there \
is, but not with that method. All carry `Cache-Control: no-store` and `X-Content-Type-Options: nosniff`, and none says which software made it. \
What GET answers, HEAD does, without the body.";

/// The document, as it stands in `docs/openapi.json`.
#[must_use]
pub fn document() -> String {
    let mut shared = Shared::default();
    let paths = calls().fold(PathsBuilder::new(), |paths, call| {
        let (path, item) = call.build(&mut shared);
        paths.path(path, item)
    });
    let error = shared.error();
    let api = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Identity Connector")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(
                    utoipa::openapi::LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
                )),
        )
        .servers(Some([
            server(
                "http://127.0.0.1:8080",
                "`server.bind`: the gate and, unless `commerce.bind` is set, the shopper's side",
            ),
            server("http://127.0.0.1:9090", "`management.bind`: operations and administration"),
        ]))
        .tags(Some([
            tag(gate::TAG, "The call that a gate waits for"),
            tag(shopper::TAG, "The shopper's side, for apps: there where `commerce.enabled` is on"),
            tag(operations::TAG, "Whether it runs, and how; this document"),
            tag(administration::TAG, "Who is known, and what was decided"),
        ]))
        .paths(paths)
        .components(Some(components().schema(call::ERROR, error).responses_from_iter(shared.responses).build()))
        .build();
    // Nothing in it can fail to be JSON.
    api.to_pretty_json().map(|json| json + "\n").unwrap_or_default()
}

fn calls() -> impl Iterator<Item = Call> {
    [gate::call()].into_iter().chain(shopper::calls()).chain(operations::calls()).chain(administration::calls())
}

fn components() -> ComponentsBuilder {
    let mut schemas = Vec::new();
    add::<gate::ScanBody>(&mut schemas);
    add::<super::answer::Authorized<'_>>(&mut schemas);
    shopper::schemas(&mut schemas);
    operations::schemas(&mut schemas);
    administration::schemas(&mut schemas);
    let own = |name: &str, description: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, description)))
    };
    let bearer = |description: &str| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    ComponentsBuilder::new()
        .schemas_from_iter(schemas)
        .security_scheme(API_KEY, own("X-Api-Key", "The key of one of `server.callers`."))
        .security_scheme(
            CLIENT_CERTIFICATE,
            SecurityScheme::MutualTls {
                description: Some("A certificate of one of `server.callers`, by `tls.client_authority`.".to_owned()),
                deprecated: None,
                extensions: None,
            },
        )
        .security_scheme(
            MANAGEMENT_TOKEN,
            SecurityScheme::Http(
                bearer("`management.token`. Where it is not set, the administration is closed and metrics are open.")
                    .build(),
            ),
        )
        .security_scheme(
            BEARER,
            SecurityScheme::Http(
                bearer("An anonymous token, or an access token of one of the retailer's identity providers.")
                    .bearer_format("JWT")
                    .build(),
            ),
        )
        .security_scheme(
            CUSTOMER_CONTEXT,
            own("X-Customer-Context", "Made for one bearer token, and good with no other."),
        )
        .security_scheme(AUTHORIZATION_KEY, own("X-Auth-Key", "`commerce.authorization_key`."))
}

/// A type, and those that it is made of.
fn add<T: ToSchema + PartialSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((T::name().into_owned(), T::schema()));
    T::schemas(schemas);
}

fn server(url: &str, description: &str) -> utoipa::openapi::Server {
    ServerBuilder::new().url(url).description(Some(description)).build()
}

fn tag(name: &str, description: &str) -> utoipa::openapi::Tag {
    TagBuilder::new().name(name).description(Some(description)).build()
}

/// The 500, which is always the same.
fn fault() -> ApiError {
    ApiError::Internal { reason: "", cause: String::new() }
}
