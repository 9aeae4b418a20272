//! The OpenAPI document of all ports, and a page to read it. Tests compare the document with real requests and answers.
//!
//! Document and page are on the management port and need no token: they contain no secret, and a browser cannot send a
//! token by itself. The demo's page and its endpoints are not in the document.

mod page;

pub(crate) use page::routes;

use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, OpenApiBuilder, ServerBuilder};

use crate::gate_api;
use crate::http::described_probes;
use crate::http::openapi::{
    API_KEY, AUTHORIZATION_KEY, BEARER, CLIENT_CERTIFICATE, CUSTOMER_CONTEXT, MANAGEMENT_TOKEN, share,
};
use crate::shopper;

const DESCRIPTION: &str = "\
The gate's call is on `server.bind`. The shopper's side is on `commerce.bind` if that is set, else on `server.bind` too. Administration and \
metrics are on `management.bind`. The probes are on every port.

Every answer that is not a success is `{\"message\": \"…\"}`. An unknown path gets 404; a known path with another method gets 405 with `Allow`. Every \
answer has `Cache-Control: no-store` and `X-Content-Type-Options: nosniff`, and no answer names the server software. HEAD gets the answer of GET \
without its body.";

/// The document. `docs/openapi.json` is a copy of it.
#[must_use]
pub fn document() -> String {
    let mut api = OpenApiBuilder::new()
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
            tag("gate", "The gate's call"),
            tag("shopper", "The shopper's side, for apps: requires `commerce.enabled`"),
            tag("operations", "Probes, metrics, and this document"),
            tag("administration", "Stores, shoppers, keys, tokens and customers; sessions, decisions and the audit"),
        ]))
        .components(Some(security_schemes().build()))
        .build();
    api.merge(gate_api::described_routes().into_openapi());
    api.merge(shopper::http::described_routes().into_openapi());
    api.merge(described_probes().into_openapi());
    api.merge(super::metrics_routes().into_openapi());
    api.merge(page::described_routes().into_openapi());
    api.merge(super::administration_routes().into_openapi());
    share(&mut api);
    // Writing it as JSON cannot fail.
    api.to_pretty_json().map(|json| json + "\n").unwrap_or_default()
}

fn security_schemes() -> ComponentsBuilder {
    let own = |name: &str, description: &str| {
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, description)))
    };
    let bearer = |description: &str| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
    ComponentsBuilder::new()
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

fn server(url: &str, description: &str) -> utoipa::openapi::Server {
    ServerBuilder::new().url(url).description(Some(description)).build()
}

fn tag(name: &str, description: &str) -> utoipa::openapi::Tag {
    TagBuilder::new().name(name).description(Some(description)).build()
}
