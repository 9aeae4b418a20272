//! What the descriptions of all ports share: refusals, credentials, and what the calls of a port have in common.
//!
//! The attribute `#[utoipa::path]` of each handler describes its call, and the routes are made from the same attributes,
//! so routes and document cannot differ. Refusals describe themselves (`refusals`).

mod refusals;

pub(crate) use refusals::{Refusals, refusals, share};

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, RefOr};
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
