//! The OpenAPI document of all ports, and Swagger UI to read it, which is part of the binary and loads nothing from
//! other servers. Tests compare the document with real requests and answers.
//!
//! Document and page are on the management port and need no token: they contain no secret, and a browser cannot send a
//! token by itself. The demo's page and its endpoints are not in the document.

use std::sync::{Arc, LazyLock, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::schema::ComponentsBuilder;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApiBuilder, ServerBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use crate::gate_api;
use crate::http::error::Refused;
use crate::http::openapi::{
    API_KEY, AUTHORIZATION_KEY, BEARER, CLIENT_CERTIFICATE, CUSTOMER_CONTEXT, JSON, MANAGEMENT_TOKEN, share,
};
use crate::http::{described_probes, page_file};
use crate::shopper;

const DESCRIPTION: &str = "\
The gate's call is on `server.bind`. The shopper's side is on `commerce.bind` if that is set, else on `server.bind` too. Administration and \
metrics are on `management.bind`. The probes are on every port.

Every answer that is not a success is `{\"message\": \"…\"}`. An unknown path gets 404; a known path with another method gets 405 with `Allow`. Every \
answer has `Cache-Control: no-store` and `X-Content-Type-Options: nosniff`, and no answer names the server software. HEAD gets the answer of GET \
without its body.";

/// The path of the document.
const DOCUMENT: &str = "/openapi.json";
/// The path of the page.
const PAGE: &str = "/openapi";

/// The browser loads from this server only, runs no inline script, and shows the page in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'self'; \
                      form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";

/// The document. `docs/openapi.json` is a copy of it.
pub fn document() -> String {
    let mut api = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Identity Connector")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build())),
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
    api.merge(described_routes().into_openapi());
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
    let certificate = "The certificate of a caller in `server.callers`, issued by `tls.client_authority`.";
    let certificate = Some(certificate.to_owned());
    let management = "`management.token`. If it is not set, administration is closed and metrics need no token.";
    let token = "An anonymous token, or an access token from one of the retailer's identity providers.";
    let context = "The customer context that was made for the bearer token. It is valid with that token only.";
    let schemes = [
        (API_KEY, own("X-Api-Key", "The API key of a caller in `server.callers`.")),
        (
            CLIENT_CERTIFICATE,
            SecurityScheme::MutualTls { description: certificate, deprecated: None, extensions: None },
        ),
        (MANAGEMENT_TOKEN, SecurityScheme::Http(bearer(management).build())),
        (BEARER, SecurityScheme::Http(bearer(token).bearer_format("JWT").build())),
        (CUSTOMER_CONTEXT, own("X-Customer-Context", context)),
        (AUTHORIZATION_KEY, own("X-Auth-Key", "The value of `commerce.authorization_key`.")),
    ];
    schemes.into_iter().fold(ComponentsBuilder::new(), |all, (name, scheme)| all.security_scheme(name, scheme))
}

fn server(url: &str, description: &str) -> utoipa::openapi::Server {
    ServerBuilder::new().url(url).description(Some(description)).build()
}

fn tag(name: &str, description: &str) -> utoipa::openapi::Tag {
    TagBuilder::new().name(name).description(Some(description)).build()
}

pub(crate) fn routes() -> Router {
    Router::from(described_routes())
        .route("/", get(async || page_file(HTML, POLICY, include_str!("openapi/port.html"))))
        .route("/openapi/{*file}", get(async |Path(name): Path<String>| file(&name)))
}

fn described_routes() -> OpenApiRouter {
    OpenApiRouter::default().routes(routes!(get_document)).routes(routes!(page))
}

/// Show this document as a page
#[utoipa::path(
    get, path = PAGE, operation_id = "openapiPage", tag = "operations", security(()),
    responses((status = 200, description = "The page.", body = String, content_type = HTML))
)]
async fn page() -> impl IntoResponse {
    file("index.html")
}

/// Get this document
#[utoipa::path(
    get, path = DOCUMENT, operation_id = "openapi", tag = "operations", security(()),
    responses((status = 200, description = "The document.", body = Object))
)]
async fn get_document() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    ([(header::CONTENT_TYPE, JSON)], TEXT.get_or_init(document).as_str()).into_response()
}

/// A file of Swagger UI.
fn file(name: &str) -> Response {
    // The page sends no requests of its own: the other ports are other origins, and no token is typed into it.
    static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
        let config = Config::from(DOCUMENT).use_base_layout().supported_submit_methods([""; 0]).validator_url("none");
        Arc::new(config)
    });
    match utoipa_swagger_ui::serve(name, Arc::clone(&CONFIG)) {
        // Its links are relative to the folder of its files.
        Ok(Some(page)) if name == "index.html" => {
            let html = String::from_utf8_lossy(&page.bytes).replace("<head>", "<head><base href=\"/openapi/\">");
            page_file(HTML, POLICY, html).into_response()
        }
        Ok(Some(file)) => page_file(file.content_type, POLICY, file.bytes).into_response(),
        Ok(None) => Refused::not_found().into_response(),
        Err(error) => Refused::internal("page", error.to_string()).into_response(),
    }
}
