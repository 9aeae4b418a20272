//! Who calls the gate's API, found out from the head of a request alone: nothing of a stranger's body is read.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::caller::ClientCertificate;
use super::error::ApiError;
use super::request_log::LogNames;
use crate::callers::{Caller, Callers, Credentials};

const X_API_KEY: &str = "x-api-key";

/// The caller of a request, where callers are told apart.
#[derive(Clone, Debug)]
pub(super) struct KnownCaller(pub(super) Arc<Caller>);

/// Lets nobody pass who may not call.
pub(super) async fn authenticate(State(callers): State<Callers>, mut request: Request, next: Next) -> Response {
    let certificate = request.extensions().get::<ClientCertificate>();
    let credentials = Credentials {
        api_key: api_key(request.headers()),
        certificate_subject: certificate.map(|ClientCertificate(subject)| &**subject),
    };
    match callers.identify(credentials) {
        Ok(None) => {}
        Ok(Some(caller)) => {
            if let Some(log) = request.extensions().get::<LogNames>() {
                log.set_caller(Arc::clone(&caller.name));
            }
            request.extensions_mut().insert(KnownCaller(caller));
        }
        Err(unknown) => return ApiError::UnknownCaller(unknown).into_response(),
    }
    next.run(request).await
}

/// The one `X-Api-Key`. Of several, which somebody on the way may have read otherwise, none is right.
fn api_key(headers: &HeaderMap) -> Option<&[u8]> {
    let mut keys = headers.get_all(X_API_KEY).iter();
    let key = keys.next()?;
    Some(if keys.next().is_none() { key.as_bytes() } else { &[] })
}
