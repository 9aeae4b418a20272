//! The OpenAPI document of all ports, and a page to read it.
//!
//! Schemas of answers come from the types that are sent, refusals from [`Refused`]. Tests compare the document with
//! real requests and answers. Both are on the management port and need no token: they contain no secret, and a browser
//! cannot send a token by itself. The demo's page and its endpoints are not in the document.

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

use super::error::Refused;
use call::{Call, Shared};

/// The names of the security schemes.
const API_KEY: &str = "apiKey";
const CLIENT_CERTIFICATE: &str = "clientCertificate";
const MANAGEMENT_TOKEN: &str = "managementToken";
const BEARER: &str = "bearer";
const CUSTOMER_CONTEXT: &str = "customerContext";
const AUTHORIZATION_KEY: &str = "authorizationKey";

const DESCRIPTION: &str = "\
The gate's call is on `server.bind`. The shopper's side is on `commerce.bind` if that is set, else on `server.bind` too. Administration and \
metrics are on `management.bind`. The probes are on every port.

Every answer that is not a success is `{\"message\": \"…\"}`. An unknown path gets 404; a known path with another method gets 405 with `Allow`. Every \
answer has `Cache-Control: no-store` and `X-Content-Type-Options: nosniff`, and no answer names the server software. HEAD gets the answer of GET \
without its body.";

/// The document. `docs/openapi.json` is a copy of it.
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
                "`server.bind`: the gate's call and, unless `commerce.bind` is set, the shopper's side",
            ),
            server("http://127.0.0.1:9090", "`management.bind`: operations and administration"),
        ]))
        .tags(Some([
            tag(gate::TAG, "The gate's call"),
            tag(shopper::TAG, "The shopper's side, for apps: requires `commerce.enabled`"),
            tag(operations::TAG, "Probes, metrics, and this document"),
            tag(administration::TAG, "Stores, shoppers, keys, tokens and customers; sessions, decisions and the audit"),
        ]))
        .paths(paths)
        .components(Some(components().schema(call::ERROR, error).responses_from_iter(shared.responses).build()))
        .build();
    // Writing it as JSON cannot fail.
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
        .security_scheme(API_KEY, own("X-Api-Key", "The API key of a caller in `server.callers`."))
        .security_scheme(
            CLIENT_CERTIFICATE,
            SecurityScheme::MutualTls {
                description: Some(
                    "The certificate of a caller in `server.callers`, issued by `tls.client_authority`.".to_owned(),
                ),
                deprecated: None,
                extensions: None,
            },
        )
        .security_scheme(
            MANAGEMENT_TOKEN,
            SecurityScheme::Http(
                bearer("`management.token`. If it is not set, administration is closed and metrics need no token.")
                    .build(),
            ),
        )
        .security_scheme(
            BEARER,
            SecurityScheme::Http(
                bearer("An anonymous token, or an access token from one of the retailer's identity providers.")
                    .bearer_format("JWT")
                    .build(),
            ),
        )
        .security_scheme(
            CUSTOMER_CONTEXT,
            own(
                "X-Customer-Context",
                "The customer context that was made for the bearer token. It is valid with that token only.",
            ),
        )
        .security_scheme(AUTHORIZATION_KEY, own("X-Auth-Key", "The value of `commerce.authorization_key`."))
}

/// Adds the schemas of a type and of its members' types.
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

/// The 500. Its message is always the same.
fn fault() -> Refused {
    Refused::internal("", String::new())
}
